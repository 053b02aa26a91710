// What the timing programs share: random data, and times of calls on the current device.
#pragma once
#include <algorithm>
#include <functional>
#include <vector>

#include "kernels/bandwidth/bandwidth.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/graph.h"

namespace deltacal::kernels::cuda {

constexpr int repeats = 60;

// 16-bit numbers of magnitude 1 and below, either type's.
static __global__ void fill(uint32_t* to, size_t n, uint32_t seed) {
  for (size_t i = blockIdx.x * size_t(blockDim.x) + threadIdx.x; i < n; i += size_t(gridDim.x) * blockDim.x) {
    uint32_t x = uint32_t(i) * 2654435761u ^ seed;
    x ^= x >> 16, x *= 0x85ebca6bu, x ^= x >> 13, x *= 0xc2b2ae35u, x ^= x >> 16;
    to[i] = pack<bf16>(float(x & 0xffff) / 32768 - 1, float(x >> 16) / 32768 - 1);
  }
}
template <class T>
struct Memory {
  explicit Memory(size_t n) : size(n) {
    check(cudaMalloc(&data, n * sizeof(T)), "cudaMalloc");
    check(cudaMemset(data, 0, n * sizeof(T)), "cudaMemset");
  }
  explicit Memory(const std::vector<T>& x) : Memory(x.size()) {
    check(cudaMemcpy(data, x.data(), x.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  Memory(const Memory&) = delete;
  ~Memory() { cudaFree(data); }
  T* get() const { return static_cast<T*>(data); }
  size_t size;
  void* data = nullptr;
};

inline void fill_random(const Memory<uint16_t>& memory, uint32_t seed) {
  fill<<<1024, 256>>>(reinterpret_cast<uint32_t*>(memory.get()), memory.size / 2, seed);
  check(cudaDeviceSynchronize(), "fill");
}

inline double median(std::vector<double> x) {
  std::nth_element(x.begin(), x.begin() + long(x.size() / 2), x.end());
  return x[x.size() / 2];
}

using Call = std::function<void(int, const Launch&)>;  // number of the call

class Timer {
 public:
  Timer() : flush_(size_t(256) << 20) {
    check(cudaStreamCreate(&stream_), "stream");
    check(cudaEventCreate(&from_), "event");
    check(cudaEventCreate(&to_), "event");
  }
  // Microseconds a call, in a graph of n calls.
  double in_graph(int n, const Call& call) {
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
    for (int i = 0; i < n; ++i) call(i, {stream_, true});
    check(cudaStreamEndCapture(stream_, &graph), "capture");
    check(cudaGraphInstantiate(&exec, graph, 0), "graph");
    std::vector<double> times;
    for (int i = 0; i < repeats + 5; ++i)
      times.push_back(elapsed([&] { check(cudaGraphLaunch(exec, stream_), "graph"); }) / n);
    check(cudaGraphExecDestroy(exec), "graph");
    check(cudaGraphDestroy(graph), "graph");
    times.erase(times.begin(), times.begin() + 5);
    return median(times);
  }
  // Microseconds of one call, second-level cache cold.
  double alone(int n, const Call& call) {
    std::vector<double> times;
    for (int i = 0; i < repeats + 5; ++i) {
      check(cudaMemsetAsync(flush_.get(), i, flush_.size, stream_), "flush");
      times.push_back(elapsed([&] { call(i % n, {stream_, false}); }));
    }
    times.erase(times.begin(), times.begin() + 5);
    return median(times);
  }

 private:
  template <class F>
  double elapsed(const F& f) {
    check(cudaEventRecord(from_, stream_), "event");
    f();
    check(cudaEventRecord(to_, stream_), "event");
    check(cudaEventSynchronize(to_), "a kernel");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, from_, to_), "event");
    return 1e3 * ms;
  }
  Memory<char> flush_;
  cudaStream_t stream_;
  cudaEvent_t from_, to_;
};

// GB/s of reading, the best of several grids. Calls read two arrays by turns: between two reads of a line lie
// `bytes` of others, many times what the second-level cache holds, and none of them asks to be kept or to
// leave first.
inline double read_bandwidth(Timer& timer, const void* first, const void* second, size_t bytes) {
  Memory<uint32_t> never(1);
  double best = 0;
  for (const int blocks_an_sm : {2, 4, 8, 16})
    best = std::max(best, double(bytes) / timer.in_graph(4, [&](int i, const Launch& on) {
      bandwidth::read(i % 2 ? second : first, bytes, never.get(), blocks_an_sm, on);
    }) / 1e3);
  return best;
}

// What main() returns: of a program that says why it cannot run.
template <class Program>
int status_of(const Program& program) {
  try {
    program();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
  return 0;
}

}  // namespace deltacal::kernels::cuda
