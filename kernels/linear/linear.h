// A linear layer, and a pair of them joined by the gate of a transformer's MLP (Shazeer, arXiv 2002.05202,
// section 2; silu(x) = x / (1 + e^-x)):
//
//   y[r,i] = sum_k x[r,k] w[i,k]
//   out    = y, or with a gate: out[r,i] = silu(y[r,i]) * y[r,n+i]
#pragma once

namespace deltacal::kernels::linear {

struct Params {
  int n_rows = 0, n = 0, k = 0;  // rows; numbers of a row of out, and of x: any
  bool gated = false;
  const float* x = nullptr;       // [n_rows, k]
  const float* weight = nullptr;  // [n, k], gated [2 n, k]: the gate's rows first
  float* out = nullptr;           // [n_rows, n]
};

void reference(const Params&);  // in double

}  // namespace deltacal::kernels::linear
