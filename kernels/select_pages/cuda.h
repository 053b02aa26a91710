// select_pages.h on a CUDA device: the ranked list of pages of each row, the same list to the last tie. One
// launch for all rows; the lists lie ready for paged attention (list, list_stride = k_pages).
#pragma once
#include "kernels/cuda/launch.h"

namespace deltacal::kernels::cuda::select_pages {

constexpr int max_pages = 8192;  // of a row

struct Params {
  int n_rows = 0;
  int k_pages = 0, l_pages = 0;  // K and L, 1 <= L <= K
  double position_bias = 1e-7;   // b
  const float* score = nullptr;  // [n_rows, score_stride]; may be null where K = L
  int score_stride = 0;          // >= the pages of the longest row, at most max_pages; any number where K = L
  // [n_rows] keys of each row; it sees U = pages_for(length) pages. 0: it is idle, its list all -1. Read
  // early, as page_score reads it
  const int32_t* length = nullptr;
  int32_t* list = nullptr;  // [n_rows, k_pages] out, ranked; entries past min(K, U) are -1
};

void run(const Params&, const Launch&);

}  // namespace deltacal::kernels::cuda::select_pages
