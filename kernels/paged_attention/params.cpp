#include <vector>

#include "kernels/check.h"
#include "kernels/paged_attention/paged_attention.h"

namespace deltacal::kernels::paged_attention {
namespace {

constexpr const char* kernel = "paged_attention";

// `last_row` [max_pages]: the last row whose list had the page, -1 at first.
void check_list(const Params& p, int r, std::vector<int>& last_row) {
  const int n = p.list_length[r], pages = pages_for(p.length[r]);
  if (n == 0 || n > p.list_stride) {
    throw bad_input("{}: list_length[{}] is {}, expected 1 to list_stride = {}, or -1 for all pages", kernel,
                    r, n, p.list_stride);
  }
  for (int i = 0; i < n; ++i) {
    const int page = p.list[size_t(r) * size_t(p.list_stride) + size_t(i)];
    if (page < 0 || page >= pages) {
      throw bad_input("{}: list[{}, {}] is page {}, row {} sees pages 0 to {}", kernel, r, i, page, r,
                      pages - 1);
    }
    check_page(kernel, p.kv, r, p.sequence ? p.sequence[r] : 0, page);
    if (last_row[size_t(page)] == r) {
      throw bad_input("{}: list[{}, {}] is page {} a second time: its positions would count twice", kernel, r, i,
                      page);
    }
    last_row[size_t(page)] = r;
  }
}

}  // namespace

void check(const Params& p) {
  require(p.n_rows >= 0, kernel, "n_rows", p.n_rows, "at least 0");
  if (p.n_rows == 0) return;
  check_cache(kernel, p.kv);
  check_heads(kernel, p.n_heads, p.kv);
  require(p.scale > 0, kernel, "scale", p.scale, "more than 0");
  require_pointer(kernel, "q", p.q);
  require_pointer(kernel, "length", p.length);
  require_pointer(kernel, "out", p.out);
  if (p.list) require_pointer(kernel, "list_length", p.list_length);
  std::vector<int> last_row(p.list ? size_t(p.kv.max_pages) : 0, -1);
  for (int r = 0; r < p.n_rows; ++r) {
    const bool has_list = p.list && p.list_length[r] >= 0;
    if (!has_list) continue;
    check_row(kernel, r, p.sequence ? p.sequence[r] : 0, p.length[r]);
    check_list(p, r, last_row);
  }
  // Rows without a list need all their pages; runs of them share one look at the page table.
  for (int r = 0; r < p.n_rows;) {
    int end = r;
    while (end < p.n_rows && !(p.list && p.list_length[end] >= 0)) ++end;
    check_rows(kernel, p.kv, end - r, p.sequence ? p.sequence + r : nullptr, p.length + r);
    r = end + 1;
  }
}

}  // namespace deltacal::kernels::paged_attention
