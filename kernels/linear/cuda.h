// linear.h on a CUDA device, for the rows of a decode step: tensor cores, sums in float. The same bits every
// time, whichever block comes last.
#pragma once
#include "kernels/cuda/launch.h"

namespace deltacal::kernels::cuda::linear {

// Up to so many rows it is used instead of cuBLAS: 64 on compute capability 9.0, where on an H100 a DELTA
// step of the 7B shape takes at least 7% less time with 16 rows, 6% with 32, 5% with 64; few_rows below 9.0.
int max_rows();
constexpr int few_rows = 8;  // for which there is a kernel on every device

// Arrays in device memory, aligned to 16 bytes, rows without gaps.
struct Params {
  int n_rows = 0;           // at most max_rows()
  int n = 0, k = 0;         // numbers of a row of out, and of x: multiples of 8
  bool gated = false;       // out is silu(gate) * up
  Type type = Type::bf16;   // of x and weight
  bool out_f32 = false;     // out in float instead
  const void* x = nullptr;  // [n_rows, k]
  // [n, k], gated [2 n, k]: the gate's rows first. Written by no kernel that may still run when this one
  // starts: with Launch::overlap it is read before the kernels before have ended
  const void* weight = nullptr;
  void* out = nullptr;  // [n_rows, n]
  // workspace_bytes(); 256-byte aligned; zero before its first use. Calls of one stream may share it: each
  // leaves it ready for the next
  void* workspace = nullptr;
};

// For calls of any shape on the current device.
size_t workspace_bytes();

// Throws Error naming the field (shapes and pointers: what lies in device memory is not looked at).
void run(const Params&, const Launch&);

}  // namespace deltacal::kernels::cuda::linear
