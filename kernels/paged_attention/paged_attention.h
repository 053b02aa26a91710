// Attention of a batch of rows over a paged KV cache: over all pages a row sees, or over a list of its pages.
//
//   out[r,h] = sum_i softmax_i(q[r,h] . k[g(h),i] * scale) v[g(h),i]       g(h) = h / (n_heads / n_kv_heads)
//
// with i over the positions < length[r] in the pages attended. The softmax is normalised over those positions alone.
// A row whose list_length is negative attends to all its pages in ascending order. A row's result does not depend
// on the other rows of the call, nor on the number of threads; a list of all pages in ascending order gives the same
// bits as no list.
#pragma once
#include <cstdint>

#include "kernels/paged.h"

namespace deltacal::kernels::paged_attention {

struct Params {
  int n_rows = 0, n_heads = 0;
  float scale = 0;                        // 1 / sqrt(head_dim) unless the model says otherwise
  const float* q = nullptr;               // [n_rows, n_heads, head_dim]
  PagedKv kv;
  const int32_t* sequence = nullptr;      // [n_rows] row of the page table; null: all rows are sequence 0
  const int32_t* length = nullptr;        // [n_rows] keys each row sees, >= 1
  const int32_t* list = nullptr;          // [n_rows, list_stride] logical pages, none twice; null: every row attends to all
  const int32_t* list_length = nullptr;   // [n_rows] pages of each list, or -1 for all; required with list
  int list_stride = 0;
  float* out = nullptr;                   // [n_rows, n_heads, head_dim]
  float* lse = nullptr;                   // [n_rows, n_heads] log of the softmax's denominator, optional
};

void check(const Params&);      // throws Error naming the field and what it should be
void reference(const Params&);  // plain loops, sums in double
void cpu(const Params&);        // vectorised, all threads

}  // namespace deltacal::kernels::paged_attention
