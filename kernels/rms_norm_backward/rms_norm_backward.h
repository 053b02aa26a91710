// Backward of the RMS norm (rms_norm/rms_norm.h), with respect to its input, added to a gradient that is
// there:
//
//   s[r]           = 1 / sqrt(mean_i x[r,i]^2 + epsilon)
//   gradient[r,i] += s (weight[i] dy[r,i] - x[r,i] s^2 mean_j weight[j] dy[r,j] x[r,j])
#pragma once

namespace deltacal::kernels::rms_norm_backward {

struct Params {
  int n_rows = 0, n = 0;          // rows, numbers of a row: any
  float epsilon = 0;              // 0 or more
  const float* x = nullptr;       // [n_rows, n] the norm's input
  const float* weight = nullptr;  // [n]
  const float* dy = nullptr;      // [n_rows, n] gradient of the norm's output
  float* gradient = nullptr;      // [n_rows, n] in and out
};

void reference(const Params&);  // in double

}  // namespace deltacal::kernels::rms_norm_backward
