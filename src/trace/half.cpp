#include "trace/half.h"

#include <bit>
#include <cassert>

namespace deltacal::trace {
namespace {

// binary32: 8 exponent bits with bias 127, 23 fraction bits; binary16: 5 with bias 15, 10 (IEEE
// 754-2008, 3.6).
constexpr int dropped_bits = 23 - 10;
constexpr uint32_t bias_difference = (127 - 15) << 23;
constexpr uint32_t infinity32 = 0x7f800000;
constexpr uint32_t first_to_infinity = 0x477ff000;      // 65520, half-way from the largest half to 2^16
constexpr uint32_t smallest_normal = (127 - 14) << 23;  // 2^-14
constexpr uint32_t largest_to_zero = (127 - 25) << 23;  // 2^-25, half-way from 0 to the smallest half

// value >> shift, rounded to nearest, ties to even; 1 <= shift <= 24, and value + 2^(shift-1) fits.
constexpr uint32_t shift_rounding(uint32_t value, int shift) {
  const uint32_t odd = value >> shift & 1;
  return (value + (1u << (shift - 1)) - 1 + odd) >> shift;
}

}  // namespace

uint16_t to_half(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  uint32_t half = 0;
  if (magnitude > infinity32)
    half = 0x7e00 | (magnitude >> dropped_bits & 0x3ff);
  else if (magnitude >= first_to_infinity)
    half = 0x7c00;
  else if (magnitude >= smallest_normal)
    half = shift_rounding(magnitude - bias_difference, dropped_bits);
  else if (magnitude >
           largest_to_zero)  // subnormal: a multiple of 2^-24, the value being significand * 2^(e - 150)
    half = shift_rounding((magnitude & 0x7fffff) | 0x800000, 126 - static_cast<int>(magnitude >> 23));
  return static_cast<uint16_t>(sign | half);
}

float from_half(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16;
  const uint32_t magnitude = half & 0x7fffu;
  if (magnitude >= 0x7c00)
    return std::bit_cast<float>(sign | infinity32 | (magnitude & 0x3ff) << dropped_bits);
  if (magnitude >= 0x0400)
    return std::bit_cast<float>(sign | ((magnitude << dropped_bits) + bias_difference));
  const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;
  return sign ? -subnormal : subnormal;
}

void to_half(std::span<const float> values, std::span<uint16_t> halves) {
  assert(values.size() == halves.size());
  for (size_t i = 0; i < values.size(); ++i) halves[i] = to_half(values[i]);
}

void from_half(std::span<const uint16_t> halves, std::span<float> values) {
  assert(values.size() == halves.size());
  for (size_t i = 0; i < halves.size(); ++i) values[i] = from_half(halves[i]);
}

}  // namespace deltacal::trace
