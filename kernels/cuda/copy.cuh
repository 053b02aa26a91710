// Asynchronous copies from device memory to shared memory: bulk copies that arrive at an mbarrier (sm_90),
// and cp.async (sm_80); loads into registers; and what enters or leaves the second-level cache for them.
#pragma once
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/tensor_map.h"

namespace deltacal::kernels::cuda {

#if __CUDA_ARCH__ >= 900

// An mbarrier is 8 bytes of shared memory. After init_barriers_done() by the thread that initialised it and a
// barrier of the threads it can be used, by copies too.
__device__ __forceinline__ void init_barrier(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void init_barriers_done() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Arrives and says how many bytes of copies the phase waits for.
__device__ __forceinline__ void arrive_expecting(uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Waits for the end of the phase of parity 0 (first, third, ...) or 1.
__device__ __forceinline__ void wait_barrier(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra finished;\n"
      "bra again;\n"
      "finished:\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// One thread copies `bytes`, a multiple of 16, between 16-byte aligned places; counted by `barrier`.
__device__ __forceinline__ void copy_bulk(uint32_t to, const void* from, int bytes, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
      "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier)
      : "memory");
}

// The same, and what it reads is the first to leave the second-level cache: keys and values are read once a
// step, more than the cache holds.
__device__ __forceinline__ void copy_bulk_once(uint32_t to, const void* from, int bytes, uint32_t barrier) {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, "
      "[%3], %4;" ::"r"(to),
      "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier), "l"(policy)
      : "memory");
}

// One thread copies the box (tensor_map.h) that begins at `column` of group `group` to a multiple of 1024
// bytes; counted by `barrier` with all its bytes, zeros included.
__device__ __forceinline__ void copy_box(uint32_t to, const TensorMap& matrix, int column, int group,
                                         uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %4, "
      "%4, %3}], [%5];" ::"r"(to),
      "l"(&matrix), "r"(column), "r"(group), "r"(0), "r"(barrier)
      : "memory");
}
// The same, and what it reads is the first to leave the second-level cache.
__device__ __forceinline__ void copy_box_once(uint32_t to, const TensorMap& matrix, int column, int group,
                                              uint32_t barrier) {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint [%0], "
      "[%1, {%2, %4, %4, %3}], [%5], %6;" ::"r"(to),
      "l"(&matrix), "r"(column), "r"(group), "r"(0), "r"(barrier), "l"(policy)
      : "memory");
}

#endif

// The line of 128 bytes is on its way into the second-level cache.
__device__ __forceinline__ void prefetch_line(const void* from) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(from)));
}

// 16 bytes by one thread, past the first-level cache.
__device__ __forceinline__ void copy_chunk(uint32_t to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(__cvta_generic_to_global(from))
               : "memory");
}
// The same, and what it reads is the first to leave the second-level cache.
__device__ __forceinline__ void copy_chunk_once(uint32_t to, const void* from) {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(to),
               "l"(__cvta_generic_to_global(from)), "l"(policy)
               : "memory");
}
__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Until at most `pending` of this thread's committed groups are under way.
template <int pending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// A line of 128 bytes leaves the second-level cache without going to memory: what it holds is anything, until
// it is written again.
__device__ __forceinline__ void discard_line(void* line) {
  asm volatile("discard.global.L2 [%0], 128;" ::"l"(__cvta_generic_to_global(line)) : "memory");
}

// 16 bytes into registers, where `there`; else `to` stays. Without a branch.
__device__ __forceinline__ void load_chunk_if(bool there, uint4& to, const void* from) {
  asm volatile(
      "{\n"
      ".reg .pred there;\n"
      "setp.ne.b32 there, %5, 0;\n"
      "@there ld.global.v4.b32 {%0, %1, %2, %3}, [%4];\n"
      "}\n"
      : "+r"(to.x), "+r"(to.y), "+r"(to.z), "+r"(to.w)
      : "l"(__cvta_generic_to_global(from)), "r"(int(there))
      : "memory");
}

}  // namespace deltacal::kernels::cuda
