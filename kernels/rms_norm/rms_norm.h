// Residual add and RMS norm of a decode step (Zhang and Sennrich, arXiv 1910.07467, equation 4):
//
//   x[r,i]  += y[r,i]
//   out[r,i] = x[r,i] / sqrt(mean_i x[r,i]^2 + epsilon) * weight[i]
#pragma once

namespace deltacal::kernels::rms_norm {

struct Params {
  int n_rows = 0, n = 0;          // rows, numbers of a row: any
  float epsilon = 0;              // 0 or more
  float* x = nullptr;             // [n_rows, n] residual stream, in and out
  const float* y = nullptr;       // [n_rows, n] added to x; null: nothing is
  const float* weight = nullptr;  // [n]
  float* out = nullptr;           // [n_rows, n]
};

// Sums in double; x is rounded to float before its squares are summed, as it is kept.
void reference(const Params&);

}  // namespace deltacal::kernels::rms_norm
