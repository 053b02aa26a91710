// Page score and page mass of recorded rows in replay, on a GPU (kernels/page_score/page_score.h says what
// they are). The keys are those of one sequence as the prefill has them, not paged; the softmax' denominator
// is known from the prefill's attention. Rows see the keys 0..position.
#pragma once
#include <cstdint>

#include "kernels/cuda/paged.h"
#include "kernels/page_score/page.h"

namespace deltacal::kernels::cuda::record_scores {

using kernels::page_score::Page;

// Arrays in device memory, q and keys aligned to 16 bytes.
struct Params {
  int n_rows = 0, n_heads = 0, n_kv_heads = 0, head_dim = 0;
  int n_keys = 0;
  Type type = Type::bf16;  // of q and keys
  float scale = 0;
  const void* q = nullptr;            // [n_rows, n_heads, head_dim]
  const void* keys = nullptr;         // [n_keys, n_kv_heads, head_dim] with the strides below
  int64_t key_token_stride = 0;       // elements from a token to the next, a multiple of 8
  int64_t key_head_stride = 0;        // elements from a key/value head to the next, a multiple of 8
  const float* lse = nullptr;         // [n_rows, n_heads] natural log of sum of exp(logit) over the keys seen
  const int32_t* position = nullptr;  // [n_rows] 0..n_keys - 1; past it as the last. Fastest ascending
  Page page = Page::sum;
  int out_pages = 0;            // row length of the outputs, >= pages of n_keys
  float* score = nullptr;       // [n_rows, out_pages]  pages past the row's own are 0
  float* mass = nullptr;        // [n_rows, out_pages]  optional
  float* group_mass = nullptr;  // [n_rows, n_kv_heads, out_pages]  optional
};

// Shapes and pointers, without a device. Throws Error naming the field.
void check(const Params&);

}  // namespace deltacal::kernels::cuda::record_scores
