// Rotary embedding of queries and keys, and the append of keys and values to the paged cache, in one pass.
//
// The angle of dimension pair j at position t is t * inverse_frequency[j]. Pairs are (j, j + head_dim/2)
// ("neox", Hugging Face order) or (2j, 2j+1) ("interleaved", the order GGUF files of llama models are written
// in). RoFormer (arXiv 2104.09864), section 3.4.2. Angles, sines and cosines are computed in double, the rest
// in float; bf16 rounds to nearest even. No two rows of a call may have the same sequence and position. What
// lies in a page after the last position written is left as it is.
#pragma once
#include <cstdint>

#include "kernels/paged.h"

namespace deltacal::kernels::append_kv {

enum class RotaryPairs { neox, interleaved };

struct Params {
  int n_rows = 0, n_heads = 0;
  RotaryPairs pairs = RotaryPairs::neox;
  int rotary_dim = 0;                        // leading dimensions that are rotated, even, <= head_dim
  const float* inverse_frequency = nullptr;  // [rotary_dim / 2] radians a position
  float amplitude = 1;                       // factor on cos and sin (YaRN's attention factor)
  const int32_t* sequence = nullptr;         // [n_rows]; null: all rows are sequence 0
  const int32_t* position = nullptr;         // [n_rows]
  float* q = nullptr;                        // [n_rows, n_heads, head_dim] in, out
  const float* k = nullptr;                  // [n_rows, n_kv_heads, head_dim]
  const float* v = nullptr;                  // [n_rows, n_kv_heads, head_dim]
  PagedKv kv;                                // the pages of `position` are allocated
};

void check(const Params&);
void reference(const Params&);
void cpu(const Params&);

}  // namespace deltacal::kernels::append_kv
