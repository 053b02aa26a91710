// rms_norm.h on a CUDA device: the residual stream in float, what is added and the result in 16 bits. One
// launch for all rows, computed in float.
#pragma once
#include "kernels/rms_norm/cuda_rows.h"

namespace deltacal::kernels::cuda::rms_norm {

// Arrays in device memory, aligned to 16 bytes, rows without gaps.
struct Params {
  int n_rows = 0, n = 0;          // rows; numbers of a row, a multiple of 8, at most max_row
  Type type = Type::bf16;         // of y and out
  float epsilon = 0;              // 0 or more
  float* x = nullptr;             // [n_rows, n] residual stream, in and out; only read where y is null
  const void* y = nullptr;        // [n_rows, n] added to x; null: nothing is
  // [n] written by no kernel that may still run when this one starts: with Launch::overlap it is read before
  // the kernels before have ended
  const float* weight = nullptr;
  void* out = nullptr;            // [n_rows, n]; may be y
};

// Throws Error naming the field (shapes and pointers: what lies in device memory is not looked at).
void run(const Params&, const Launch&);

}  // namespace deltacal::kernels::cuda::rms_norm
