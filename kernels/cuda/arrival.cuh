// Blocks that share a piece of work: whoever comes last finishes it.
#pragma once
#include "kernels/cuda/device.cuh"

namespace deltacal::kernels::cuda {

// True in the block that is the last of `n` to arrive, in all its threads; what all n have written before can
// be read then, past the first-level cache. `arrived` is 0 before the first comes, and again after the last.
// `flag` is in shared memory. By all threads of the block.
__device__ inline bool last_to_arrive(int* arrived, int n, int* flag) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    const bool last = atomicAdd(arrived, 1) == n - 1;
    if (last) *arrived = 0;
    *flag = last;
  }
  __syncthreads();
  const bool last = *flag != 0;
  if (last) __threadfence();
  return last;
}

}  // namespace deltacal::kernels::cuda
