// Stands for kernels/cuda/device.cuh.
#pragma once
#include "emulator.h"
#include "kernels/cuda/paged.h"

namespace deltacal::kernels::cuda {

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};
inline float to_float(bf16 x) {
  return emulator::from_word<float>(uint64_t(x.bits) << 16);
}
inline float to_float(f16 x) {
  __half_raw raw;
  raw.x = x.bits;
  return __half2float(raw);
}
template <class T>
T from_float(float x);
template <>
inline bf16 from_float<bf16>(float x) {
  const uint32_t bits = uint32_t(emulator::to_word(x));
  if (std::isnan(x)) return {0x7fff};
  return {uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}
template <>
inline f16 from_float<f16>(float x) {
  const __half_raw raw = __float2half_rn(x);
  return {raw.x};
}
template <class T>
uint32_t pack(float first, float second) {
  return from_float<T>(first).bits | uint32_t(from_float<T>(second).bits) << 16;
}
template <class T>
float2 unpack(uint32_t packed) {
  return {to_float(T{uint16_t(packed)}), to_float(T{uint16_t(packed >> 16)})};
}

constexpr unsigned all_lanes = 0xffffffffu;
constexpr float log2_e = 1.4426950408889634f, ln_2 = 0.6931471805599453f;
inline float exp2_fast(float x) {
  return std::exp2(x);
}
inline float max_nan(float a, float b) {
  return std::isnan(a) || std::isnan(b) ? NAN : std::max(a, b);
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
inline void wait_for_previous() {}
inline void let_next_start() {}

}  // namespace deltacal::kernels::cuda
