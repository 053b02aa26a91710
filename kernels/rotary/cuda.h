// rotary.h on a CUDA device: one launch for all rows. Angles, products and roundings as in append_kv/cuda.h.
#pragma once
#include "kernels/append_kv/cuda.h"

namespace deltacal::kernels::cuda::rotary {

using append_kv::RotaryPairs;

// Arrays in device memory, aligned to 4 bytes. Rows may be parts of longer ones: strides are in elements from
// row to row, even, 0 for rows without a gap.
struct Params {
  int n_rows = 0, n_heads = 0, head_dim = 0;  // head_dim even, at most 256
  Type type = Type::bf16;                     // of x and out
  bool backward = false;
  RotaryPairs pairs = RotaryPairs::neox;
  int rotary_dim = 0;                        // leading dimensions that are rotated, even, <= head_dim
  const float* inverse_frequency = nullptr;  // [rotary_dim / 2] radians a position
  float amplitude = 1;                       // factor on cos and sin (YaRN's attention factor)
  int first_position = 0;
  const void* x = nullptr;      // [n_rows, n_heads, head_dim]
  const float* bias = nullptr;  // [n_heads, head_dim]; null: none. Forward only
  void* out = nullptr;          // [n_rows, n_heads, head_dim]; may be x
  long x_stride = 0, out_stride = 0;
};

// Throws Error naming the field (shapes and pointers: what lies in device memory is not looked at).
void run(const Params&, const Launch&);

}  // namespace deltacal::kernels::cuda::rotary
