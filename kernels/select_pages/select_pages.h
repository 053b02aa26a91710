// DELTA's page selection: the ranked list of pages of each row (arXiv 2510.09883, section 3).
//
//   select(S, K, L): the last min(L, U) pages, newest first, then the others by S[u] - b u, descending,
//   min(K, U) pages in all. S in f32, the difference in double; equal values: the lower page first; NaN as -inf.
//   The list is ranked also where K >= U, so its first k pages are select(S, k, L) for every L <= k <= K.
//   With L = K the score is never read.
#pragma once
#include <cstdint>

namespace deltacal::kernels::select_pages {

struct Params {
  int n_rows = 0;
  int k_pages = 0, l_pages = 0;      // K and L, 1 <= L <= K
  double position_bias = 1e-7;       // b
  const float* score = nullptr;      // [n_rows, score_stride]; may be null where K = L
  int score_stride = 0;
  const int32_t* n_pages = nullptr;  // [n_rows] U of each row, >= 1
  int32_t* list = nullptr;           // [n_rows, k_pages] out, ranked; entries past min(K, U) are -1
};

void check(const Params&);
void reference(const Params&);
void cpu(const Params&);

}  // namespace deltacal::kernels::select_pages
