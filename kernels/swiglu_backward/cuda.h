// swiglu_backward.h on a CUDA device: one launch for all rows, computed in float.
#pragma once
#include "kernels/cuda/launch.h"

namespace deltacal::kernels::cuda::swiglu_backward {

// Arrays in device memory, aligned to 16 bytes, rows without gaps.
struct Params {
  int n_rows = 0, n = 0;          // rows; numbers of a row of dy, a multiple of 8
  Type type = Type::bf16;         // of all three
  const void* gate_up = nullptr;  // [n_rows, 2 n] the row's gate first, then its up
  const void* dy = nullptr;       // [n_rows, n] gradient of the gate's output
  void* d_gate_up = nullptr;      // [n_rows, 2 n]
};

// Throws Error naming the field (shapes and pointers: what lies in device memory is not looked at).
void run(const Params&, const Launch&);

}  // namespace deltacal::kernels::cuda::swiglu_backward
