// token_nll.h on a CUDA device: one launch for all rows, computed in float.
#pragma once
#include "kernels/cuda/launch.h"

namespace deltacal::kernels::cuda::token_nll {

// Arrays in device memory, logits aligned to 16 bytes, rows without gaps.
struct Params {
  int n_rows = 0, n = 0;            // rows; numbers of a row (the vocabulary)
  const float* logits = nullptr;    // [n_rows, n]
  const int32_t* target = nullptr;  // [n_rows] 0..n - 1
  float* nll = nullptr;             // [n_rows] nats
};

// Throws Error naming the field (shapes and pointers: what lies in device memory is not looked at).
void run(const Params&, const Launch&);

}  // namespace deltacal::kernels::cuda::token_nll
