// Attention of a prefill on a CUDA device, by LibTorch's fused kernels: they read a key once for many rows.
// Included only by src/decode/*.cpp and src/sensitivity/*.cpp that are built with CUDA.
#pragma once
#include <ATen/core/Tensor.h>

#include "kernels/cuda/paged.h"

namespace deltacal::decode {

// Keys and values of a sequence's first n_keys positions, out of their pages.
struct Prefix {
  at::Tensor keys, values;  // [n_rows, G, d] bf16; rows from n_keys on are 0
};
Prefix prefix_of(const kernels::cuda::PagedKv&, int sequence, int n_keys, int n_rows);

struct AttendedRows {
  at::Tensor out;          // [n, H d] bf16
  at::Tensor log_sum_exp;  // [n, H] natural log
};
// q [n, H, d] bf16: the last n rows of the prefix, each of which sees the keys up to its own.
AttendedRows attend_prefix(const at::Tensor& q, const Prefix&, float scale);

// Rows [n, heads, d] as LibTorch's attention takes them: [1, heads, n, d].
at::Tensor as_heads(const at::Tensor& rows);
// What it returns, [1, heads, n, d], as rows [n, heads d] without gaps.
at::Tensor as_rows(const at::Tensor& heads);

}  // namespace deltacal::decode
