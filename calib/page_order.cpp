#include "calib/page_order.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <functional>
#include <limits>

namespace deltacal::calib {

void PageOrder::rank(std::span<const float> score, int max_pages) {
  n_pages_ = static_cast<int>(score.size());
  max_pages_ = max_pages;
  key_.resize(score.size());
  for (int u = 0; u < n_pages_; ++u)
    key_[u] = std::isnan(score[u]) ? -std::numeric_limits<double>::infinity()
                                   : static_cast<double>(score[u]) - position_bias_ * u;
  order_.clear();
  double least = -std::numeric_limits<double>::infinity();  // key of the last page that is needed
  if (max_pages < n_pages_) {
    sorted_ = key_;
    std::nth_element(sorted_.begin(), sorted_.begin() + max_pages - 1, sorted_.end(), std::greater<>());
    least = sorted_[max_pages - 1];
    for (int u = 0; u < n_pages_; ++u)
      if (key_[u] > least) order_.push_back(u);
  }
  for (int u = 0; u < n_pages_ && std::ssize(order_) < max_pages; ++u)  // of equal ones the lower pages
    if (max_pages >= n_pages_ || key_[u] == least) order_.push_back(u);
  std::sort(order_.begin(), order_.end(),
            [&](int32_t a, int32_t b) { return key_[a] != key_[b] ? key_[a] > key_[b] : a < b; });
}

void PageOrder::list(int k_pages, int l_pages, std::vector<int32_t>& pages) const {
  assert(1 <= l_pages && l_pages <= k_pages);
  const int wanted = std::min({k_pages, max_pages_, n_pages_});
  const int window = n_pages_ - std::min(l_pages, n_pages_);  // first page of the newest ones
  pages.clear();
  for (int u = n_pages_ - 1; u >= window && std::ssize(pages) < wanted; --u) pages.push_back(u);
  for (const int32_t u : order_) {
    if (std::ssize(pages) == wanted) break;
    if (u < window) pages.push_back(u);
  }
}

}  // namespace deltacal::calib
