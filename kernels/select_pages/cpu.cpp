// A heap of the best K - L pages so far: a page that does not enter costs one comparison. Rows are spread
// over the threads. There is nothing to vectorise that the attention around it would notice.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/select_pages/select_pages.h"

namespace deltacal::kernels::select_pages {
namespace {

struct Candidate {
  double key;  // S - b u
  int32_t page;
};

bool ranks_before(const Candidate& a, const Candidate& b) {
  return a.key > b.key || (a.key == b.key && a.page < b.page);
}

// One row's list; `candidates` has room for all pages where K > L.
void select_row(const Params& p, int r, Candidate* candidates) {
  const int pages = p.n_pages[r], recent = std::min(p.l_pages, pages), older = pages - recent;
  int32_t* list = p.list + size_t(r) * size_t(p.k_pages);
  int n = 0;
  while (n < recent) list[n] = pages - 1 - n, ++n;
  const int chosen = std::min(p.k_pages - recent, older);
  if (chosen > 0) {
    const float* score = p.score + size_t(r) * size_t(p.score_stride);
    for (int u = 0; u < older; ++u) {
      const bool nan = std::isnan(score[u]);
      candidates[u] = {
          nan ? -std::numeric_limits<double>::infinity() : double(score[u]) - p.position_bias * u, u};
    }
    std::partial_sort(candidates, candidates + chosen, candidates + older, ranks_before);
    for (int i = 0; i < chosen; ++i) list[n++] = candidates[i].page;
  }
  std::fill(list + n, list + p.k_pages, -1);
}

}  // namespace

void cpu(const Params& p) {
  check(p);
  if (p.n_rows == 0) return;
  const size_t longest =
      p.k_pages > p.l_pages ? size_t(*std::max_element(p.n_pages, p.n_pages + p.n_rows)) : 0;
  const int n_threads = std::min(omp_get_max_threads(), p.n_rows);
  std::vector<Candidate> candidates(size_t(n_threads) * longest);
#pragma omp parallel for schedule(dynamic, 8) num_threads(n_threads) if (p.n_rows > 8)
  for (int r = 0; r < p.n_rows; ++r)
    select_row(p, r, candidates.data() + longest * size_t(omp_get_thread_num()));
}

}  // namespace deltacal::kernels::select_pages
