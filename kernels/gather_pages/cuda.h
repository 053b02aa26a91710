// On a CUDA device: keys and values of one sequence out of their pages, as rows, for kernels that take a
// prefix as one array (a prefill's attention, recording).
#pragma once
#include "kernels/cuda/launch.h"

namespace deltacal::kernels::cuda::gather_pages {

// Arrays in device memory, outputs aligned to 16 bytes.
struct Params {
  PagedKv kv;
  int sequence = 0, n_keys = 0;  // keys 0..n_keys-1, whose pages are allocated
  void* keys = nullptr;          // [n_keys, n_kv_heads, head_dim] out
  void* values = nullptr;        // [n_keys, n_kv_heads, head_dim] out
};

// Throws Error naming the field (shapes and pointers: what lies in device memory is not looked at).
void run(const Params&, const Launch&);

}  // namespace deltacal::kernels::cuda::gather_pages
