#include "runtime.h"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "block.h"

struct EmulatedGraph {
  std::vector<std::function<void()>> work;
};

namespace emulator {
namespace {

std::unique_ptr<EmulatedGraph> capture;

}  // namespace

void submit(std::function<void()> work) {
  if (capture) {
    capture->work.push_back(std::move(work));
  } else {
    work();
  }
}

void run_grid(dim3 grid, int n_threads, int cluster, size_t shared, const std::function<void()>& kernel) {
  language.grid = grid, language.block = dim3(unsigned(n_threads));
  const unsigned n_blocks = grid.x * grid.y * grid.z, size = unsigned(cluster);
  if (grid.x % size != 0) throw std::logic_error("emulator: a grid that is no multiple of its clusters");
  for (unsigned i = 0; i < n_blocks; i += size) {
    const unsigned block = order.reversed ? n_blocks - size - i : i;
    language.block_index = dim3(block % grid.x, block / grid.x % grid.y, block / grid.x / grid.y);
    Block::run(n_threads, cluster, shared, kernel);
  }
}

}  // namespace emulator

cudaError_t cudaGetDeviceCount(int* n) {
  *n = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* id) {
  *id = 0;
  return cudaSuccess;
}
// Few multiprocessors, so that small cases have blocks that share their work.
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr what, int) {
  switch (what) {
    case cudaDevAttrMultiProcessorCount:
      *value = 3;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = __CUDA_ARCH__ / 100;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = __CUDA_ARCH__ / 10 % 10;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = int(emulator::max_dynamic_shared);
      break;
    case cudaDevAttrL2CacheSize:
      *value = 400 * 1024;
      break;
  }
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  *pointer = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  return *pointer ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFree(void* pointer) {
  std::free(pointer);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  if (bytes > 0) std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemset(void* to, int byte, size_t bytes) {
  if (bytes > 0) std::memset(to, byte, bytes);
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = nullptr;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t) {
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  emulator::capture = std::make_unique<EmulatedGraph>();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = emulator::capture.release();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new EmulatedGraph(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  for (const auto& work : executable->work) work();
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : "out of memory";
}
