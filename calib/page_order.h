// The order in which DELTA takes pages: select(S, K, L) of one row, once for all K and L.
//
// The last min(L, U) pages come first, newest first; the others follow by S[u] - b u, descending: S in f32,
// the difference in double, equal values the lower page first, NaN as -inf (arXiv 2510.09883, section 3; b
// from the official implementation). The others' order does not depend on L, so one ranking of a row serves
// every K and L.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "config/schedule.h"

namespace deltacal::calib {

inline const double default_position_bias = config::Schedule{}.position_bias;  // b: what a config will rank with

// Ranks the pages of rows; holds the memory for it, so keep one per thread.
class PageOrder {
 public:
  explicit PageOrder(double position_bias = default_position_bias) : position_bias_(position_bias) {}
  // Ranks the U = score.size() pages of a row as far as lists of at most `max_pages` need it.
  void rank(std::span<const float> score, int max_pages);
  // select(S, min(k_pages, max_pages), l_pages) of the row ranked last, 1 <= l_pages <= k_pages: min(K, U)
  // pages.
  void list(int k_pages, int l_pages, std::vector<int32_t>& pages) const;

 private:
  double position_bias_;
  int n_pages_ = 0, max_pages_ = 0;
  std::vector<double> key_;     // [U] S[u] - b u
  std::vector<double> sorted_;  // [U] scratch: the keys, partly sorted
  std::vector<int32_t> order_;  // [min(max_pages, U)] of all pages, whatever L
};

}  // namespace deltacal::calib
