// Page mass and page value of recorded rows for the sensitivity pass, on a GPU
// (kernels/page_value/page_value.h says what they are). Keys and values are those of one sequence as the
// prefill has them, not paged; the softmax' denominator is known from the prefill's attention. Rows see the
// keys 0..position.
//
// Precision. What is read from the results is g.(o~ - o): per page c[u] = value[u] - (g.o) mass[u], which
// sums to 0. Mass and value of a page come from the same rounded probabilities, and every page sees the same
// rounded gradient, so rounding is as if logits and gradient had been a little different: it does not meet
// the cancellation. A gradient in bf16 would be good enough for that reason. It is split into two terms all
// the same (the second the rounding of the first; after scaling by a power of two, so that small gradients
// survive f16), because that costs one more mma of three and lets the result be held against the reference as
// a float computation. Keys, values and queries are exact.
#pragma once
#include <cstdint>

#include "kernels/cuda/paged.h"

namespace deltacal::kernels::cuda::record_values {

// Arrays in device memory, q, keys and values aligned to 16 bytes, gradient to 8.
struct Params {
  int n_rows = 0, n_heads = 0, n_kv_heads = 0, head_dim = 0, n_gradients = 1;
  int n_keys = 0;
  Type type = Type::bf16;  // of q, keys and values
  float scale = 0;
  const void* q = nullptr;          // [n_rows, n_heads, head_dim]
  const float* gradient = nullptr;  // [n_gradients, n_rows, n_heads, head_dim]
  const void* keys = nullptr;       // [n_keys, n_kv_heads, head_dim] with the strides below, as values
  const void* values = nullptr;
  int64_t token_stride = 0;           // elements from a token to the next, a multiple of 8
  int64_t head_stride = 0;            // elements from a key/value head to the next, a multiple of 8
  const float* lse = nullptr;         // [n_rows, n_heads] natural log of sum of exp(logit) over the keys seen
  const int32_t* position = nullptr;  // [n_rows] 0..n_keys - 1; past it as the last. Fastest ascending
  int out_pages = 0;                  // row length of the outputs, >= pages of n_keys
  float* mass = nullptr;              // [n_rows, n_heads, out_pages]  pages past the row's own are 0
  float* value = nullptr;             // [n_gradients, n_rows, n_heads, out_pages]  likewise
};

// Shapes and pointers, without a device. Throws Error naming the field.
void check(const Params&);

}  // namespace deltacal::kernels::cuda::record_values
