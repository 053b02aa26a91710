// The rules that kernels on row tiles share (see kernels/check.h).
#pragma once
#include <cstdint>

#include "kernels/check.h"
#include "kernels/row_tile/layout.h"

namespace deltacal::kernels::cuda::row_tile {

struct Shape {
  int n_rows, n_heads, n_kv_heads, head_dim, n_keys, out_pages;
};
void check_shape(const char* kernel, const Shape&);

// An array of which kernels read 16 bytes at once.
void check_array(const char* kernel, const char* field, const void* pointer);
void check_stride(const char* kernel, const char* field, int64_t stride, int64_t least);

}  // namespace deltacal::kernels::cuda::row_tile
