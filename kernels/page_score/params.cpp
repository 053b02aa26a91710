#include <algorithm>

#include "kernels/check.h"
#include "kernels/page_score/page_score.h"

namespace deltacal::kernels::page_score {

void check(const Params& p) {
  constexpr const char* kernel = "page_score";
  require(p.n_rows >= 0, kernel, "n_rows", p.n_rows, "at least 0");
  if (p.n_rows == 0) return;
  check_cache(kernel, p.kv);
  check_heads(kernel, p.n_heads, p.kv);
  require(p.scale > 0, kernel, "scale", p.scale, "more than 0");
  require_pointer(kernel, "q", p.q);
  require_pointer(kernel, "length", p.length);
  require_pointer(kernel, "score", p.score);
  check_rows(kernel, p.kv, p.n_rows, p.sequence, p.length);
  const int longest = *std::max_element(p.length, p.length + p.n_rows);
  require(p.out_pages >= pages_for(longest), kernel, "out_pages", p.out_pages,
          fmt::format("at least {}, the pages of the longest row", pages_for(longest)).c_str());
}

}  // namespace deltacal::kernels::page_score
