// Something to launch, for tests of what watches a device.
#pragma once
#include <cuda_runtime_api.h>

#include <catch2/catch_test_macros.hpp>

#include "kernels/record_scores/cuda.h"

namespace deltacal::gpu_trace {

inline void must(cudaError_t error) {
  if (error != cudaSuccess) FAIL(cudaGetErrorString(error));
}

// Some kernel to launch: page scores of 16 rows over zeros.
class Work {
 public:
  Work() {
    must(cudaStreamCreate(&stream));
    must(cudaMalloc(&memory_, bytes));
    must(cudaMemset(memory_, 0, bytes));
    must(cudaDeviceSynchronize());
    char* at = static_cast<char*>(memory_);
    p_.n_rows = 16, p_.n_heads = 2, p_.n_kv_heads = 1, p_.head_dim = 64, p_.n_keys = 64, p_.scale = 1;
    p_.q = at, p_.keys = at, p_.lse = reinterpret_cast<float*>(at),
    p_.position = reinterpret_cast<int32_t*>(at);
    p_.key_token_stride = 64, p_.key_head_stride = 64, p_.out_pages = 4;
    p_.score = reinterpret_cast<float*>(at + bytes / 2);
  }
  ~Work() {
    cudaFree(memory_);
    cudaStreamDestroy(stream);
  }
  void kernel() { kernels::cuda::record_scores::run(p_, {stream, false}); }
  void memset() { must(cudaMemsetAsync(static_cast<char*>(memory_) + bytes / 2, 0, 256, stream)); }

  cudaStream_t stream = nullptr;

 private:
  static constexpr size_t bytes = 1 << 16;
  void* memory_ = nullptr;
  kernels::cuda::record_scores::Params p_;
};

}  // namespace deltacal::gpu_trace
