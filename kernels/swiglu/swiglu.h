// The gate of a transformer's MLP (Shazeer, arXiv 2002.05202, section 2; silu(x) = x / (1 + e^-x)):
//
//   out[r,i] = silu(gate[r,i]) * up[r,i]
#pragma once

namespace deltacal::kernels::swiglu {

struct Params {
  int n_rows = 0, n = 0;           // rows, numbers of a row of out: any
  const float* gate_up = nullptr;  // [n_rows, 2 n] the row's gate first, then its up
  float* out = nullptr;            // [n_rows, n]
};

void reference(const Params&);  // in double

}  // namespace deltacal::kernels::swiglu
