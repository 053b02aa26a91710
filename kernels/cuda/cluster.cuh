// Blocks of a cluster (sm_90): they run at the same time, and read each other's shared memory.
#pragma once
#include "kernels/cuda/device.cuh"

namespace deltacal::kernels::cuda {

#if __CUDA_ARCH__ >= 900

// Every thread of the cluster arrives, then waits: what all have written before they arrived can be read, and
// a block that has waited a second time may end.
__device__ __forceinline__ void arrive_in_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void wait_for_cluster() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// 16 bytes of the shared memory of block `rank` of the cluster, at the place that `address` is in one's own.
__device__ __forceinline__ float4 load_from_block(uint32_t address, int rank) {
  float4 x;
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %4, %5;\n"
      "ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [there];\n"
      "}\n"
      : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
      : "r"(address), "r"(rank)
      : "memory");
  return x;
}

#endif

}  // namespace deltacal::kernels::cuda
