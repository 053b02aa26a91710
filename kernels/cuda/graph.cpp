#include "kernels/cuda/graph.h"

#include <utility>

namespace deltacal::kernels::cuda {

Graph::Graph(cudaStream_t stream, const std::function<void()>& enqueue) {
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "the begin of a capture");
  cudaGraph_t graph = nullptr;
  try {
    enqueue();
  } catch (...) {
    cudaStreamEndCapture(stream, &graph);  // the first error is the one to tell
    if (graph) cudaGraphDestroy(graph);
    cudaGetLastError();
    throw;
  }
  check(cudaStreamEndCapture(stream, &graph), "the end of a capture");
  const cudaError_t made = cudaGraphInstantiate(&exec_, graph, 0);
  cudaGraphDestroy(graph);
  check(made, "cudaGraphInstantiate");
}

Graph& Graph::operator=(Graph&& other) noexcept {
  std::swap(exec_, other.exec_);
  return *this;
}
Graph::~Graph() {
  if (exec_) cudaGraphExecDestroy(exec_);
}
void Graph::launch(cudaStream_t stream) const {
  check(cudaGraphLaunch(exec_, stream), "cudaGraphLaunch");
}

Event::Event(bool timed) {
  check(cudaEventCreateWithFlags(&event_, timed ? cudaEventDefault : cudaEventDisableTiming),
        "cudaEventCreate");
}
Event::~Event() {
  cudaEventDestroy(event_);
}
void Event::record(cudaStream_t stream) {
  check(cudaEventRecord(event_, stream), "cudaEventRecord");
}
void Event::hold(cudaStream_t stream) const {
  check(cudaStreamWaitEvent(stream, event_, 0), "cudaStreamWaitEvent");
}
void Event::wait() const {
  check(cudaEventSynchronize(event_), "a kernel before an event");
}
double Event::seconds_since(const Event& earlier) const {
  float ms = 0;
  check(cudaEventElapsedTime(&ms, earlier.event_, event_), "cudaEventElapsedTime");
  return 1e-3 * double(ms);
}

Stream::Stream() {
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
}
Stream::~Stream() {
  cudaStreamDestroy(stream_);
}

void* pinned_memory(size_t bytes) {
  void* data = nullptr;
  check(cudaMallocHost(&data, bytes), "cudaMallocHost");
  return data;
}
void free_pinned(void* data) {
  cudaFreeHost(data);
}

void copy_to_device(int32_t* to, const int32_t* from, size_t n, cudaStream_t stream) {
  check(cudaMemcpyAsync(to, from, n * sizeof(int32_t), cudaMemcpyHostToDevice, stream), "cudaMemcpyAsync");
}
void copy_to_host(float* to, const float* from, size_t n, cudaStream_t stream) {
  check(cudaMemcpyAsync(to, from, n * sizeof(float), cudaMemcpyDeviceToHost, stream), "cudaMemcpyAsync");
}
void wait_for(cudaStream_t stream) {
  check(cudaStreamSynchronize(stream), "a kernel");
}

DeviceMemory device_memory() {
  DeviceMemory memory;
  check(cudaMemGetInfo(&memory.free, &memory.total), "cudaMemGetInfo");
  return memory;
}
std::string device_name() {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, current_device().id), "cudaGetDeviceProperties");
  return properties.name;
}

}  // namespace deltacal::kernels::cuda
