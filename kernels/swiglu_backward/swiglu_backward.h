// Backward of the gate of a transformer's MLP (swiglu/swiglu.h), with respect to its input:
//
//   s               = 1 / (1 + e^-gate[r,i])
//   d_gate_up[r,i]   = dy[r,i] up[r,i] s (1 + gate[r,i] (1 - s))
//   d_gate_up[r,n+i] = dy[r,i] gate[r,i] s
#pragma once

namespace deltacal::kernels::swiglu_backward {

struct Params {
  int n_rows = 0, n = 0;           // rows, numbers of a row of dy: any
  const float* gate_up = nullptr;  // [n_rows, 2 n] the row's gate first, then its up
  const float* dy = nullptr;       // [n_rows, n] gradient of the gate's output
  float* d_gate_up = nullptr;      // [n_rows, 2 n]
};

void reference(const Params&);  // in double

}  // namespace deltacal::kernels::swiglu_backward
