// merge_attention.h on a CUDA device: one launch for all rows, computed in float.
#pragma once
#include "kernels/cuda/launch.h"

namespace deltacal::kernels::cuda::merge_attention {

// Arrays in device memory, outputs of the heads aligned to 16 bytes.
struct Params {
  int n_rows = 0, n_heads = 0, head_dim = 0;
  Type type = Type::bf16;                          // of a, b and out
  const void *a = nullptr, *b = nullptr;           // [n_rows, n_heads, head_dim]
  const float *lse_a = nullptr, *lse_b = nullptr;  // [n_heads, n_rows] natural log of the sum of exp(logit)
  void* out = nullptr;                             // [n_rows, n_heads, head_dim]; may be a or b
  float* lse = nullptr;                            // [n_rows, n_heads]
};

// Throws Error naming the field (shapes and pointers: what lies in device memory is not looked at).
void run(const Params&, const Launch&);

}  // namespace deltacal::kernels::cuda::merge_attention
