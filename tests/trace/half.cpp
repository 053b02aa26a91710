#include "trace/half.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

using deltacal::trace::from_half;
using deltacal::trace::to_half;

namespace {

// The value of a half by the definition: (-1)^s 2^(e-15) (1 + f/1024), subnormal (-1)^s 2^-14 f/1024.
double definition(int half) {
  const int exponent = half >> 10 & 31, fraction = half & 1023;
  double value = exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
  if (exponent == 31) value = fraction ? NAN : INFINITY;
  return half & 0x8000 ? -value : value;
}

// The nearest half by search among all finite non-negative ones; a tie goes to the even code.
int nearest(double magnitude) {
  static const std::vector<double> values = [] {
    std::vector<double> all;
    for (int h = 0; h <= 0x7c00; ++h)
      all.push_back(h == 0x7c00 ? 65536.0 : definition(h));  // next step: infinity
    return all;
  }();
  if (magnitude >= 65536.0) return 0x7c00;
  const int above =
      static_cast<int>(std::lower_bound(values.begin(), values.end(), magnitude) - values.begin());
  if (above == 0 || values[static_cast<size_t>(above)] == magnitude) return above;
  const double up = values[static_cast<size_t>(above)] - magnitude;
  const double down = magnitude - values[static_cast<size_t>(above - 1)];
  if (up == down) return above % 2 == 0 ? above : above - 1;
  return up < down ? above : above - 1;
}

bool rounds_rightly(float value) {
  const int sign = std::signbit(value) ? 0x8000 : 0;
  return to_half(value) == (sign | nearest(std::fabs(static_cast<double>(value))));
}

}  // namespace

TEST_CASE("half: all 65536 codes have the value of the definition and come back") {
  for (int h = 0; h < 65536; ++h) {
    const double expected = definition(h);
    const float found = from_half(static_cast<uint16_t>(h));
    if (std::isnan(expected)) {
      REQUIRE(std::isnan(found));
      REQUIRE(std::isnan(from_half(to_half(found))));
    } else {
      REQUIRE(static_cast<double>(found) == expected);
      REQUIRE(std::signbit(found) == std::signbit(expected));
      REQUIRE(to_half(found) == h);
    }
  }
}

TEST_CASE("half: every boundary between two codes rounds to nearest, ties to even") {
  const float infinity = std::numeric_limits<float>::infinity();
  int wrong = 0;
  for (int h = 0; h < 0x7c00; ++h) {
    const double next = h == 0x7bff ? 65536.0 : definition(h + 1);
    const float middle = static_cast<float>((definition(h) + next) / 2);  // exact: 12 bits
    for (const float sign : {1.0f, -1.0f})
      for (const float value : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, infinity),
                                std::nextafter(static_cast<float>(next), 0.0f)})
        wrong += !rounds_rightly(sign * value);
  }
  CHECK(wrong == 0);
}

TEST_CASE("half: random bit patterns round as a search in double says") {
  std::mt19937 random(1);
  int wrong = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    const uint32_t bits = static_cast<uint32_t>(random());
    float value;
    std::memcpy(&value, &bits, sizeof value);
    wrong += std::isnan(value) ? !std::isnan(from_half(to_half(value))) : !rounds_rightly(value);
  }
  CHECK(wrong == 0);
}
