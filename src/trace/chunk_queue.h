// Whole chunks on their way into one dataset. Other threads filter them (filters.h), which takes ten times as
// long as all else of a trace's writing; the caller's thread alone calls HDF5, in the order they came, so
// that a file is the same whatever the threads did.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "trace/hdf5.h"

namespace deltacal::trace {

// How many threads filter chunks at one time, of all datasets that share it.
class FilterThreads {
 public:
  FilterThreads();  // as many as there are cores, at most 16
  // The filtered chunk. Waits while all threads are at work; Fault if the system gives none.
  std::future<std::vector<std::byte>> start(std::vector<std::byte> data, size_t element_bytes);

 private:
  // The threads' too: they may end after the queue whose chunks they filter.
  struct Free {
    std::mutex mutex;
    std::condition_variable changed;
    size_t n;
    void take();
    void give_back();
  };
  std::shared_ptr<Free> free_;
};

class ChunkQueue {
 public:
  ChunkQueue() = default;  // with threads of its own
  explicit ChunkQueue(FilterThreads threads) : threads_(std::move(threads)) {}
  ChunkQueue(ChunkQueue&&) = default;
  ChunkQueue& operator=(ChunkQueue&&) = default;

  // `data`: the whole chunk at `offset`, dense, of elements of `element_bytes`. Writes earlier ones that are
  // ready, and waits for the oldest where as many are on their way as there are cores. Throws what went wrong
  // with one of those: Fault, or failure.
  void write(h5::Dataset&, h5::Shape offset, std::vector<std::byte> data, size_t element_bytes);
  void finish(h5::Dataset&);  // writes all that are on their way

 private:
  struct Chunk {
    h5::Shape offset;
    std::future<std::vector<std::byte>> filtered;
  };
  void write_oldest(h5::Dataset&);
  FilterThreads threads_;
  std::deque<Chunk> chunks_;
};

}  // namespace deltacal::trace
