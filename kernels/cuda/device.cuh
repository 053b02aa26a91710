// Device helpers: element types, warp reductions, waiting for the kernel before.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/paged.h"

// The block's dynamic shared memory as an array of `type`; boxes of a copy begin at multiples of 1024 bytes.
#define DELTACAL_DYNAMIC_SHARED(type, name) extern __shared__ __align__(1024) type name[]

namespace deltacal::kernels::cuda {

using bf16 = __nv_bfloat16;
using f16 = __half;

__device__ __forceinline__ float to_float(bf16 x) {
  return __bfloat162float(x);
}
__device__ __forceinline__ float to_float(f16 x) {
  return __half2float(x);
}

// Rounds to nearest even; a NaN stays one.
template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ __forceinline__ f16 from_float<f16>(float x) {
  return __float2half_rn(x);
}

// Two elements in a register, the first in the lower half.
template <class T>
__device__ __forceinline__ uint32_t pack(float first, float second);
template <>
__device__ __forceinline__ uint32_t pack<bf16>(float first, float second) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(second), "f"(first));
  return packed;
}
template <>
__device__ __forceinline__ uint32_t pack<f16>(float first, float second) {
  uint32_t packed;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(second), "f"(first));
  return packed;
}

template <class T>
__device__ __forceinline__ float2 unpack(uint32_t packed);
template <>
__device__ __forceinline__ float2 unpack<bf16>(uint32_t packed) {
  return make_float2(__uint_as_float(packed << 16), __uint_as_float(packed & 0xffff0000u));
}
template <>
__device__ __forceinline__ float2 unpack<f16>(uint32_t packed) {
  return __half22float2(*reinterpret_cast<const __half2*>(&packed));
}

constexpr unsigned all_lanes = 0xffffffffu;
constexpr float log2_e = 1.4426950408889634f, ln_2 = 0.6931471805599453f;

// 2^x, of relative error 2^-22; 0 at -infinity.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// The larger; a NaN stays.
__device__ __forceinline__ float max_nan(float a, float b) {
  float y;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
  return y;
}

// Over aligned groups of `width` lanes; every lane has the result.
template <int width = 32>
__device__ __forceinline__ float lanes_sum(float x) {
#pragma unroll
  for (int offset = width / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(all_lanes, x, offset);
  return x;
}
template <int width = 32>
__device__ __forceinline__ float lanes_max(float x) {
#pragma unroll
  for (int offset = width / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(all_lanes, x, offset));
  return x;
}

// Programmatic dependent launch. wait_for_previous: the kernels before in the stream have ended and what they
// wrote can be read; nothing is written, and nothing they write is read, before it. let_next_start: blocks of
// the next kernel may be scheduled where there is room. Both do nothing in a launch without the attribute, or
// before sm_90.
__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ __forceinline__ void let_next_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace deltacal::kernels::cuda
