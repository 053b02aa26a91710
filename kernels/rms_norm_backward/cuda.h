// rms_norm_backward.h on a CUDA device: the residual stream and its gradient in float, what comes from a
// linear layer and the rounded gradient for the next one in 16 bits. One launch for all rows, computed in
// float.
#pragma once
#include "kernels/rms_norm/cuda_rows.h"

namespace deltacal::kernels::cuda::rms_norm_backward {

using rms_norm::max_row;

// Arrays in device memory, aligned to 16 bytes, rows without gaps.
struct Params {
  int n_rows = 0, n = 0;          // rows; numbers of a row, a multiple of 8, at most max_row
  Type type = Type::bf16;         // of dy and out
  float epsilon = 0;              // 0 or more
  const float* x = nullptr;       // [n_rows, n] the norm's input
  const float* weight = nullptr;  // [n]
  const void* dy = nullptr;       // [n_rows, n] gradient of the norm's output
  float* gradient = nullptr;      // [n_rows, n] in and out
  void* out = nullptr;            // [n_rows, n] the gradient rounded; may be dy
};

// Throws Error naming the field (shapes and pointers: what lies in device memory is not looked at).
void run(const Params&, const Launch&);

}  // namespace deltacal::kernels::cuda::rms_norm_backward
