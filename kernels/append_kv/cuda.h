// append_kv.h on a CUDA device: bias, rotary embedding of queries and keys, and the append of keys and values
// to the paged cache, in one launch. The same angles and pairs; angles are reduced in double, sines and
// cosines and the products computed in float; results round to the nearest element of the cache's type.
#pragma once
#include "kernels/cuda/launch.h"

namespace deltacal::kernels::cuda::append_kv {

enum class RotaryPairs { neox, interleaved };

// Queries, keys and values are of kv.type and may be parts of one array of rows (a fused projection): strides
// are in elements from row to row, 0 for rows without a gap. No kernel that may still run when this one
// starts writes inverse_frequency, sequence, position and the page table: with Launch::overlap they are read
// before the kernels before have ended.
struct Params {
  int n_rows = 0, n_heads = 0;
  RotaryPairs pairs = RotaryPairs::neox;
  int rotary_dim = 0;                        // leading dimensions that are rotated, even, <= head_dim
  const float* inverse_frequency = nullptr;  // [rotary_dim / 2] radians a position
  float amplitude = 1;                       // factor on cos and sin (YaRN's attention factor)
  const int32_t* sequence = nullptr;         // [n_rows]; null: row r is sequence r
  const int32_t* position = nullptr;  // [n_rows] below 0: the row is idle, nothing of it is read or written
  const void* q = nullptr;            // [n_rows, n_heads, head_dim]
  const void* k = nullptr;            // [n_rows, n_kv_heads, head_dim]
  const void* v = nullptr;            // [n_rows, n_kv_heads, head_dim]
  // [(n_heads + 2 n_kv_heads) head_dim] of the fused projection: added to queries, keys and values in float,
  // before the rotation. Null: none
  const float* bias = nullptr;
  void* q_out = nullptr;              // [n_rows, n_heads, head_dim]; may be q
  long q_stride = 0, k_stride = 0, v_stride = 0, q_out_stride = 0;
  PagedKv kv;  // the pages of `position` are allocated; no two rows write one place
};

// Throws Error naming the field (shapes and pointers: what lies in device memory is not looked at).
void run(const Params&, const Launch&);

}  // namespace deltacal::kernels::cuda::append_kv
