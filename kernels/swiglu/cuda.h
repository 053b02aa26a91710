// swiglu.h on a CUDA device: one launch for all rows, computed in float.
#pragma once
#include "kernels/cuda/launch.h"

namespace deltacal::kernels::cuda::swiglu {

// Arrays in device memory, aligned to 16 bytes, rows without gaps.
struct Params {
  int n_rows = 0, n = 0;          // rows; numbers of a row of out, a multiple of 8
  Type type = Type::bf16;         // of gate_up and out
  const void* gate_up = nullptr;  // [n_rows, 2 n] the row's gate first, then its up
  void* out = nullptr;            // [n_rows, n]
};

// Throws Error naming the field (shapes and pointers: what lies in device memory is not looked at).
void run(const Params&, const Launch&);

}  // namespace deltacal::kernels::cuda::swiglu
