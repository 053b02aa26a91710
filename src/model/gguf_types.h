// How GGML's tensor types lie in memory: rows of blocks, a block of so many elements in so many bytes.
#pragma once
#include <cstdint>
#include <optional>
#include <span>

namespace deltacal::model {

struct BlockLayout {
  uint32_t type;
  const char* name;
  int elements;  // of one block; a row (shape[0]) is a whole number of blocks
  int bytes;
};

// The layout of a type in use, also of those that cannot be dequantized here; null for an unknown number.
const BlockLayout* block_layout(uint32_t type);

// Product of the dimensions; empty if one is negative or it passes int64.
std::optional<int64_t> element_count(std::span<const int64_t> shape);

// Bytes of a tensor of that layout and shape; empty if a row is no whole number of blocks, or on overflow.
std::optional<int64_t> tensor_bytes(const BlockLayout&, std::span<const int64_t> shape);

}  // namespace deltacal::model
