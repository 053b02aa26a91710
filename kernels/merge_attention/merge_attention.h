// Attention to two sets of keys, each computed by itself, as attention to both (FlashAttention-2, arXiv
// 2307.08691, section 2.3):
//
//   out = (e^lse_a a + e^lse_b b) / (e^lse_a + e^lse_b)      lse = log(e^lse_a + e^lse_b)
#pragma once

namespace deltacal::kernels::merge_attention {

struct Params {
  int n_rows = 0, n_heads = 0, head_dim = 0;
  const float *a = nullptr, *b = nullptr;          // [n_rows, n_heads, head_dim]
  const float *lse_a = nullptr, *lse_b = nullptr;  // [n_heads, n_rows] natural log of the sum of exp(logit)
  float* out = nullptr;                            // [n_rows, n_heads, head_dim]; may be a or b
  float* lse = nullptr;                            // [n_rows, n_heads]
};

void reference(const Params&);  // in double

}  // namespace deltacal::kernels::merge_attention
