// Asynchronous copies of row tiles. Assembly stands in files of this kind alone, which a test replaces by
// plain C++ to run the kernels on a CPU (tests/kernels/emulator).
#pragma once
#include "kernels/cuda/mma.cuh"

namespace deltacal::kernels::cuda::row_tile {

// 16 bytes to shared memory, zeros unless `there`; done for all after copies_done() and a barrier.
__device__ __forceinline__ void copy_or_clear(void* to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
               "l"(__cvta_generic_to_global(from)), "r"(there ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void copies_done() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

}  // namespace deltacal::kernels::cuda::row_tile
