// Page score and page mass of one layer, for a batch of rows.
//
//   alpha[h,i] = softmax_i(q[h] . k[g(h),i] * scale)            g(h) = h / (n_heads / n_kv_heads)
//   score[u]   = sum_{i in page u} max_h alpha[h,i]             DELTA (arXiv 2510.09883), section 3
//                or max_{i in page u} of it (Page::max)
//   mass[u]    = mean_h sum_{i in page u} alpha[h,i]            sums to 1 over the row's pages
//   group_mass[g,u] = like mass, the mean over the query heads of key/value head g alone
//
// A head of which any logit is NaN or +infinity (the arithmetic overflowed) has no softmax: its alpha is NaN
// at every key, and so are the row's score, mass and the mass of its group on every page that the row sees.
// It is not hidden behind the other heads; select_pages ranks such pages as -infinity.
#pragma once
#include <cstdint>

#include "kernels/page_score/page.h"
#include "kernels/paged.h"

namespace deltacal::kernels::page_score {

struct Params {
  int n_rows = 0, n_heads = 0;
  float scale = 0;
  const float* q = nullptr;           // [n_rows, n_heads, head_dim]
  PagedKv kv;
  const int32_t* sequence = nullptr;  // [n_rows] row of the page table; null: all rows are sequence 0
  const int32_t* length = nullptr;    // [n_rows] keys each row sees, >= 1
  Page page = Page::sum;
  int out_pages = 0;                  // row length of the outputs, >= pages of the longest row
  float* score = nullptr;             // [n_rows, out_pages]  pages past the row's own are 0
  float* mass = nullptr;              // [n_rows, out_pages]  optional
  float* group_mass = nullptr;        // [n_rows, n_kv_heads, out_pages]  optional
};

void check(const Params&);
void reference(const Params&);
void cpu(const Params&);

}  // namespace deltacal::kernels::page_score
