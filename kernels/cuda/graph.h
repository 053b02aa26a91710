// Work of a stream captured once and replayed, and the little of the runtime that goes with it: events,
// streams, and memory of the host that a copy may read while the host goes on.
#pragma once
#include <functional>

#include "kernels/cuda/launch.h"

namespace deltacal::kernels::cuda {

class Graph {
 public:
  Graph() = default;
  // What `enqueue` puts on the stream; none of it is run. Throws what `enqueue` throws, and where it did
  // something that cannot be captured: waiting for the device, or asking the runtime for memory.
  Graph(cudaStream_t, const std::function<void()>& enqueue);
  Graph(Graph&& other) noexcept : exec_(other.exec_) { other.exec_ = nullptr; }
  Graph& operator=(Graph&&) noexcept;
  ~Graph();
  void launch(cudaStream_t) const;

 private:
  cudaGraphExec_t exec_ = nullptr;
};

void* pinned_memory(size_t bytes);
void free_pinned(void*);

// A place in a stream. One that was never recorded has passed.
class Event {
 public:
  Event() : Event(false) {}
  explicit Event(bool timed);
  Event(const Event&) = delete;
  ~Event();
  void record(cudaStream_t);
  void hold(cudaStream_t) const;                     // the stream waits for it
  void wait() const;                                 // the host does
  double seconds_since(const Event& earlier) const;  // both timed and passed

 private:
  cudaEvent_t event_ = nullptr;
};

// A stream beside the default one: neither waits for the other but by an event.
class Stream {
 public:
  Stream();
  Stream(const Stream&) = delete;
  ~Stream();
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// Numbers in host memory that a copy reads or writes in the order of its stream.
template <class T>
class Pinned {
 public:
  explicit Pinned(size_t n) : data_(static_cast<T*>(pinned_memory(n * sizeof(T)))) {}
  Pinned(const Pinned&) = delete;
  ~Pinned() { free_pinned(data_); }
  T* get() const { return data_; }

 private:
  T* data_;
};
using PinnedInts = Pinned<int32_t>;

void copy_to_device(int32_t* to, const int32_t* from, size_t n, cudaStream_t);
void copy_to_host(float* to, const float* from, size_t n, cudaStream_t);
void wait_for(cudaStream_t);

// Of the current device.
struct DeviceMemory {
  size_t free = 0, total = 0;  // bytes
};
DeviceMemory device_memory();
std::string device_name();

}  // namespace deltacal::kernels::cuda
