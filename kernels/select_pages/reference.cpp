#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/select_pages/select_pages.h"

namespace deltacal::kernels::select_pages {

void reference(const Params& p) {
  check(p);
  for (int r = 0; r < p.n_rows; ++r) {
    const int pages = p.n_pages[r], recent = std::min(p.l_pages, pages), older = pages - recent;
    std::vector<int> ranked;
    for (int u = pages - 1; u >= older; --u) ranked.push_back(u);
    if (p.k_pages > p.l_pages) {
      std::vector<double> key(size_t(older), 0.0);
      for (int u = 0; u < older; ++u) {
        const float score = p.score[size_t(r) * size_t(p.score_stride) + size_t(u)];
        key[size_t(u)] =
            std::isnan(score) ? -std::numeric_limits<double>::infinity() : score - p.position_bias * u;
      }
      std::vector<int> order(size_t(older), 0);
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(),
                       [&](int a, int b) { return key[size_t(a)] > key[size_t(b)]; });
      ranked.insert(ranked.end(), order.begin(), order.end());
    }
    ranked.resize(size_t(std::min(p.k_pages, pages)));
    ranked.resize(size_t(p.k_pages), -1);
    std::copy(ranked.begin(), ranked.end(), p.list + size_t(r) * size_t(p.k_pages));
  }
}

}  // namespace deltacal::kernels::select_pages
