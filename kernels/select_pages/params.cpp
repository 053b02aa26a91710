#include <cmath>

#include "kernels/check.h"
#include "kernels/select_pages/select_pages.h"

namespace deltacal::kernels::select_pages {

void check(const Params& p) {
  constexpr const char* kernel = "select_pages";
  require(p.n_rows >= 0, kernel, "n_rows", p.n_rows, "at least 0");
  require(p.l_pages >= 1, kernel, "l_pages", p.l_pages, "at least 1");
  require(p.k_pages >= p.l_pages, kernel, "k_pages", p.k_pages,
          fmt::format("at least l_pages = {} (K includes L)", p.l_pages).c_str());
  require(std::isfinite(p.position_bias) && p.position_bias >= 0, kernel, "position_bias", p.position_bias,
          "a finite number, at least 0");
  if (p.n_rows == 0) return;
  require_pointer(kernel, "n_pages", p.n_pages);
  require_pointer(kernel, "list", p.list);
  if (p.k_pages > p.l_pages) require_pointer(kernel, "score", p.score);
  for (int r = 0; r < p.n_rows; ++r) {
    const int n = p.n_pages[r];
    if (n < 1) throw bad_input("{}: n_pages[{}] is {}, expected at least 1", kernel, r, n);
    if (p.k_pages > p.l_pages && n > p.score_stride) {
      throw bad_input("{}: n_pages[{}] is {}, expected at most score_stride = {}", kernel, r, n,
                      p.score_stride);
    }
  }
}

}  // namespace deltacal::kernels::select_pages
