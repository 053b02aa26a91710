// Weights of a later call on their way into the second-level cache (Ahead in cuda.h).
#pragma once
#include "kernels/cuda/copy.cuh"
#include "kernels/linear/cuda.h"

namespace deltacal::kernels::cuda::linear {

// By all threads, a stripe each, the blocks by turns.
__device__ inline void ask_ahead(const Ahead& a) {
  if (a.data == nullptr) return;
  constexpr unsigned stripe = 4096;  // a request of few bytes is slow
  const unsigned n_stripes = unsigned((a.bytes + stripe - 1) / stripe);
  for (unsigned i = threadIdx.x * gridDim.x + blockIdx.x; i < n_stripes; i += gridDim.x * blockDim.x) {
    const size_t begin = a.size / 16 * i / n_stripes * 16, left = a.size - begin;
    prefetch_bulk(static_cast<const char*>(a.data) + begin, int(left < stripe ? left : stripe));
  }
}

}  // namespace deltacal::kernels::cuda::linear
