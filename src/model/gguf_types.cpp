#include "model/gguf_types.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "model/gguf.h"

namespace deltacal::model {
namespace {

// Numbers, block lengths and block sizes of GGML (ggml.h, ggml-common.h); gaps are types that were withdrawn.
constexpr auto layouts = std::to_array<BlockLayout>({
    {0, "f32", 1, 4},         {1, "f16", 1, 2},         {2, "q4_0", 32, 18},      {3, "q4_1", 32, 20},
    {6, "q5_0", 32, 22},      {7, "q5_1", 32, 24},      {8, "q8_0", 32, 34},      {9, "q8_1", 32, 40},
    {10, "q2_k", 256, 84},    {11, "q3_k", 256, 110},   {12, "q4_k", 256, 144},   {13, "q5_k", 256, 176},
    {14, "q6_k", 256, 210},   {15, "q8_k", 256, 292},   {16, "iq2_xxs", 256, 66}, {17, "iq2_xs", 256, 74},
    {18, "iq3_xxs", 256, 98}, {19, "iq1_s", 256, 50},   {20, "iq4_nl", 32, 18},   {21, "iq3_s", 256, 110},
    {22, "iq2_s", 256, 82},   {23, "iq4_xs", 256, 136}, {24, "i8", 1, 1},         {25, "i16", 1, 2},
    {26, "i32", 1, 4},        {27, "i64", 1, 8},        {28, "f64", 1, 8},        {29, "iq1_m", 256, 56},
    {30, "bf16", 1, 2},       {34, "tq1_0", 256, 54},   {35, "tq2_0", 256, 66},   {39, "mxfp4", 32, 17},
    {40, "nvfp4", 64, 36},    {41, "q1_0", 128, 18},
});

}  // namespace

const BlockLayout* block_layout(uint32_t type) {
  const auto found = std::ranges::find(layouts, type, &BlockLayout::type);
  return found == layouts.end() ? nullptr : &*found;
}

std::optional<int64_t> element_count(std::span<const int64_t> shape) {
  int64_t product = 1;
  for (const int64_t n : shape)
    if (n < 0 || __builtin_mul_overflow(product, n, &product)) return std::nullopt;
  return product;
}

std::optional<int64_t> tensor_bytes(const BlockLayout& layout, std::span<const int64_t> shape) {
  const auto elements = element_count(shape);
  const int64_t row = shape.empty() ? 1 : shape[0];
  int64_t bytes = 0;
  if (!elements || row % layout.elements != 0) return std::nullopt;
  if (__builtin_mul_overflow(*elements / layout.elements, int64_t{layout.bytes}, &bytes)) return std::nullopt;
  return bytes;
}

std::string type_name(uint32_t type) {
  const BlockLayout* layout = block_layout(type);
  return layout ? layout->name : fmt::format("type {}", type);
}

}  // namespace deltacal::model
