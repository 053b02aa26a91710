// The instructions that row tiles are made of. A test has the same functions in plain C++ in this file's place and runs the
// kernels on a CPU (tests/kernels/emulated_instructions.h, which defines the guard): what kernels do beyond the language's
// arithmetic, shuffles and barriers goes through here.
#ifndef DELTACAL_ROW_TILE_INSTRUCTIONS
#define DELTACAL_ROW_TILE_INSTRUCTIONS
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <type_traits>

namespace deltacal::kernels::cuda::row_tile {

using Bf16 = __nv_bfloat16;
using F16 = __half;

__device__ __forceinline__ void round_to(Bf16& to, float x) {
  to = __float2bfloat16_rn(x);
}
__device__ __forceinline__ void round_to(F16& to, float x) {
  to = __float2half_rn(x);
}
__device__ __forceinline__ float widened(Bf16 x) {
  return __bfloat162float(x);
}
__device__ __forceinline__ float widened(F16 x) {
  return __half2float(x);
}

// c [16, 8] += a [16, 16] b [8, 16]^T
template <class T>
__device__ __forceinline__ void mma(float (&c)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                                    unsigned b1) {
  static_assert(sizeof(T) == 2);
  if constexpr (std::is_same_v<T, Bf16>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
}

// 2^x to two units in the last place, results below 2^-126 as 0.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// The larger; NaN if either is.
__device__ __forceinline__ float larger(float a, float b) {
  float y;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
  return y;
}

// 16 bytes to shared memory, zeros unless `there`; done for all after copies_done() and a barrier.
__device__ __forceinline__ void copy_chunk(void* to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(unsigned(__cvta_generic_to_shared(to))), "l"(from),
               "r"(there ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void copies_done() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

// Null, or why the kernel could not be launched.
template <class P>
const char* launch_kernel(void (*kernel)(P), dim3 grid, int n_threads, cudaStream_t stream, const P& p) {
  kernel<<<grid, n_threads, 0, stream>>>(p);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace deltacal::kernels::cuda::row_tile
#endif
