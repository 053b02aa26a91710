#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <cstring>
#include <map>

#include "core/files.h"
#include "model/gguf.h"
#include "support/scratch.h"

using namespace deltacal;
using namespace deltacal::model;
using Catch::Matchers::ContainsSubstring;

namespace {

struct Golden {
  std::string bytes;
  std::vector<float> values;
};

// Layout: see make_golden.py.
Golden read_golden(const std::string& name) {
  const std::string file = read_file(std::string(TEST_DATA) + "/golden/" + name + ".bin");
  uint32_t sizes[2];
  std::memcpy(sizes, file.data(), 8);
  REQUIRE(file.size() == 8 + sizes[0] + 4 * size_t{sizes[1]});
  Golden golden{file.substr(8, sizes[0]), std::vector<float>(sizes[1])};
  std::memcpy(golden.values.data(), file.data() + 8 + sizes[0], 4 * size_t{sizes[1]});
  return golden;
}

GgufTensor tensor_of(TensorType type, std::vector<int64_t> shape, std::string_view bytes) {
  return {"w", static_cast<uint32_t>(type), std::move(shape), std::as_bytes(std::span(bytes))};
}

// IEEE binary16 by its definition.
double half_value(int bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == 31) return mantissa ? NAN : sign * INFINITY;
  return sign * (exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24));
}

}  // namespace

TEST_CASE("dequantize: all types equal the gguf package's quants.py bit for bit") {
  const std::map<std::string, TensorType> types{{"f16", TensorType::f16},   {"bf16", TensorType::bf16},
                                                {"q4_0", TensorType::q4_0}, {"q4_1", TensorType::q4_1},
                                                {"q5_0", TensorType::q5_0}, {"q5_1", TensorType::q5_1},
                                                {"q8_0", TensorType::q8_0}, {"q4_k", TensorType::q4_k},
                                                {"q5_k", TensorType::q5_k}, {"q6_k", TensorType::q6_k}};
  for (const auto& [name, type] : types) {
    const Golden golden = read_golden(name);
    std::vector<float> values(golden.values.size());
    const auto n = static_cast<int64_t>(values.size());
    dequantize(tensor_of(type, {n / 4, 4}, golden.bytes), values);
    size_t n_other = 0;
    for (size_t i = 0; i < values.size(); ++i)
      n_other += std::bit_cast<uint32_t>(values[i]) != std::bit_cast<uint32_t>(golden.values[i]);
    INFO(name << ": " << n_other << " of " << values.size() << " values differ");
    CHECK(n_other == 0);
  }
}

TEST_CASE("dequantize: all 65,536 half numbers, denormals, infinities and NaN included") {
  std::vector<uint16_t> halves(65536);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  const std::string_view bytes(reinterpret_cast<const char*>(halves.data()), 2 * halves.size());
  std::vector<float> values(halves.size());
  dequantize(tensor_of(TensorType::f16, {65536}, bytes), values);
  size_t n_other = 0;
  for (int i = 0; i < 65536; ++i) {
    const double expected = half_value(i), found = values[static_cast<size_t>(i)];
    const bool same = std::isnan(expected)
                          ? std::isnan(found)
                          : expected == found && std::signbit(expected) == std::signbit(found);
    n_other += !same;
  }
  CHECK(n_other == 0);
}

TEST_CASE("dequantize: tensors that begin at an odd address") {
  const Golden golden = read_golden("q4_1");
  const std::string shifted = "x" + golden.bytes;
  std::vector<float> values(golden.values.size());
  dequantize(tensor_of(TensorType::q4_1, {96, 4}, std::string_view(shifted).substr(1)), values);
  CHECK(values == golden.values);
}

TEST_CASE("dequantize: rows that are no whole blocks and buffers of another size are refused") {
  std::vector<float> values(64);
  const std::string bytes(36, 0);
  const auto error = [&](const GgufTensor& t) { return test::error_of([&] { dequantize(t, values); }); };
  CHECK(error(tensor_of(TensorType::q4_0, {64}, bytes)) == "no error");
  CHECK_THAT(error(tensor_of(TensorType::q4_0, {16, 4}, bytes)),
             ContainsSubstring("no whole number of q4_0 blocks"));
  CHECK_THAT(error(tensor_of(TensorType::q4_0, {64, 2}, bytes)),
             ContainsSubstring("has 36 bytes, its shape needs 72"));
  CHECK_THAT(error(tensor_of(TensorType::q4_0, {32}, std::string(18, 0))),
             ContainsSubstring("room was made for 64"));
  CHECK_THAT(error(tensor_of(TensorType{20}, {64}, bytes)),
             ContainsSubstring("iq4_nl, which is not supported"));
}
