// Rotary embedding of the heads of consecutive positions, and its backward: the transpose, a rotation by the
// opposite angles. Angles and pairs as in append_kv/append_kv.h.
//
//   forward    out[r,h] = R(first_position + r) (x[r,h] + bias[h])
//   backward   out[r,h] = R(first_position + r)^T x[r,h]
#pragma once
#include "kernels/append_kv/append_kv.h"

namespace deltacal::kernels::rotary {

using append_kv::RotaryPairs;

struct Params {
  int n_rows = 0, n_heads = 0, head_dim = 0;
  bool backward = false;
  RotaryPairs pairs = RotaryPairs::neox;
  int rotary_dim = 0;                        // leading dimensions that are rotated, even, <= head_dim
  const float* inverse_frequency = nullptr;  // [rotary_dim / 2] radians a position
  float amplitude = 1;                       // factor on cos and sin (YaRN's attention factor)
  int first_position = 0;
  const float* x = nullptr;     // [n_rows, n_heads, head_dim]
  const float* bias = nullptr;  // [n_heads, head_dim]; null: none. Forward only
  float* out = nullptr;         // [n_rows, n_heads, head_dim]
};

void reference(const Params&);  // in double

}  // namespace deltacal::kernels::rotary
