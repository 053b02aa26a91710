// IEEE 754 binary16, the type in which page masses are stored.
#pragma once
#include <cstdint>
#include <span>

namespace deltacal::trace {

// Round to nearest, ties to even; 65520 and more become infinity, NaN stays NaN, 2^-25 and less become 0.
uint16_t to_half(float value);

// Exact: every half is a float.
float from_half(uint16_t half);

void to_half(std::span<const float> values, std::span<uint16_t> halves);    // both [n]
void from_half(std::span<const uint16_t> halves, std::span<float> values);  // both [n]

}  // namespace deltacal::trace
