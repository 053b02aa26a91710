// Blocks of a cluster (sm_90): they run at the same time, and write to each other's shared memory.
#pragma once
#include "kernels/cuda/device.cuh"

namespace deltacal::kernels::cuda {

#if __CUDA_ARCH__ >= 900

// Every thread of the cluster arrives, then waits: all blocks have started then, and mbarriers that were
// there (init_barriers_done) before the threads of their block arrived can be used. Nothing else is made
// visible: that would be a fence of the whole device.
__device__ __forceinline__ void arrive_in_cluster() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void wait_for_cluster() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Sends 16 bytes to the shared memory of block `rank` of the cluster; counted by that block's mbarrier.
// Places are named by where they are in one's own memory. A block that is sent to may end when it has waited.
__device__ __forceinline__ void send_to_block(int rank, uint32_t to, float4 x, uint32_t barrier) {
  asm volatile(
      "{\n"
      ".reg .b32 there, counter;\n"
      "mapa.shared::cluster.u32 there, %0, %2;\n"
      "mapa.shared::cluster.u32 counter, %1, %2;\n"
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [there], {%3, %4, %5, %6}, "
      "[counter];\n"
      "}\n" ::"r"(to),
      "r"(barrier), "r"(rank), "f"(x.x), "f"(x.y), "f"(x.z), "f"(x.w)
      : "memory");
}
// wait_barrier() of copy.cuh for what other blocks of the cluster send.
__device__ __forceinline__ void wait_barrier_in_cluster(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
      "@done bra finished;\n"
      "bra again;\n"
      "finished:\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

#endif

}  // namespace deltacal::kernels::cuda
