// kernels/cuda/device.cuh for the emulator.
#pragma once
#include <cuda_runtime_api.h>

#include "kernels/cuda/paged.h"

#define DELTACAL_DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(emulator::dynamic_shared())

namespace deltacal::kernels::cuda {

using bf16 = __nv_bfloat16;
using f16 = __half;

inline float to_float(bf16 x) {
  return __bfloat162float(x);
}
inline float to_float(f16 x) {
  return __half2float(x);
}
template <class T>
T from_float(float x);
template <>
inline bf16 from_float<bf16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
inline f16 from_float<f16>(float x) {
  return __float2half_rn(x);
}

template <class T>
uint32_t pack(float first, float second) {
  return from_float<T>(first).bits | uint32_t(from_float<T>(second).bits) << 16;
}
template <class T>
float number_of(uint32_t bits) {
  T x;
  x.bits = uint16_t(bits);
  return to_float(x);
}
template <class T>
float2 unpack(uint32_t packed) {
  return make_float2(number_of<T>(packed & 0xffff), number_of<T>(packed >> 16));
}

constexpr unsigned all_lanes = 0xffffffffu;
constexpr float log2_e = 1.4426950408889634f, ln_2 = 0.6931471805599453f;

inline float exp2_fast(float x) {
  const float y = std::exp2(x);
  return y < 0x1p-126f ? 0 : y;
}
inline float max_nan(float a, float b) {
  return std::isnan(a) || std::isnan(b) ? std::numeric_limits<float>::quiet_NaN() : std::max(a, b);
}
template <int width = 32>
float lanes_sum(float x) {
  for (int offset = width / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(all_lanes, x, offset);
  return x;
}
template <int width = 32>
float lanes_max(float x) {
  for (int offset = width / 2; offset > 0; offset /= 2)
    x = std::fmax(x, __shfl_xor_sync(all_lanes, x, offset));
  return x;
}
inline void wait_for_previous() {
  if (emulator::previous_kernel) emulator::previous_kernel();
  emulator::previous_kernel = nullptr;
}
inline void let_next_start() {}

}  // namespace deltacal::kernels::cuda
