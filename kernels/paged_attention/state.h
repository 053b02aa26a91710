// What passes between the driver of paged attention and its inner loops.
#pragma once
#include "kernels/paged.h"

namespace deltacal::kernels::paged_attention {

// One key/value head of a tile of rows.
struct Item {
  const float* q = nullptr;  // [head_dim, n_queries] times scale * log2(e)
  int n_queries = 0, per_row = 0;
  const int* last_keys = nullptr;  // [rows]
  int head_dim = 0;
  KvType type = KvType::f32;
};

// Softmax and output over some of the keys, in powers of 2: out is the sum of 2^(logit - max) times the
// value.
struct State {
  float* max = nullptr;  // [n_queries]
  float* sum = nullptr;  // [n_queries]
  float* out = nullptr;  // [n_queries, head_dim]
};

}  // namespace deltacal::kernels::paged_attention
