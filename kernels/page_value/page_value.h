// What each page of each head gives to the attention output, and to a loss whose gradient is known.
//
//   alpha[h,i]  = softmax_i(q[h] . k[g(h),i] * scale)                     g(h) = h / (n_heads / n_kv_heads)
//   mass[h,u]   = sum_{i in page u} alpha[h,i]                            sums to 1 over the row's pages
//   value[h,u]  = sum_{i in page u} alpha[h,i] (gradient[h] . v[g(h),i])  sums to gradient[h] . out[h]
//
// With both, gradient . out is known under any choice of pages without looking at keys or values again
// (method.md, "Predicted KL of an edge").
#pragma once
#include <cstdint>

#include "kernels/paged.h"

namespace deltacal::kernels::page_value {

struct Params {
  int n_rows = 0, n_heads = 0, n_gradients = 1;
  float scale = 0;
  const float* q = nullptr;         // [n_rows, n_heads, head_dim]
  const float* gradient = nullptr;  // [n_gradients, n_rows, n_heads, head_dim]
  PagedKv kv;
  const int32_t* sequence = nullptr;  // [n_rows] row of the page table; null: all rows are sequence 0
  const int32_t* length = nullptr;    // [n_rows] keys each row sees, >= 1
  int out_pages = 0;                  // row length of the outputs, >= pages of the longest row
  float* mass = nullptr;              // [n_rows, n_heads, out_pages]  pages past the row's own are 0
  float* value = nullptr;             // [n_gradients, n_rows, n_heads, out_pages]  likewise
};

void check(const Params&);
void reference(const Params&);
void cpu(const Params&);

}  // namespace deltacal::kernels::page_value
