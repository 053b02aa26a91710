#include "kernels/check.h"

namespace deltacal::kernels {

void check_cache(const char* kernel, const PagedKv& kv) {
  require(kv.n_kv_heads >= 1, kernel, "kv.n_kv_heads", kv.n_kv_heads, "at least 1");
  require(kv.head_dim >= 32 && kv.head_dim % 32 == 0, kernel, "kv.head_dim", kv.head_dim, "a multiple of 32");
  require(kv.n_pages >= 1, kernel, "kv.n_pages", kv.n_pages, "at least 1");
  require(kv.max_pages >= 1, kernel, "kv.max_pages", kv.max_pages, "at least 1");
  require_pointer(kernel, "kv.keys", kv.keys);
  require_pointer(kernel, "kv.values", kv.values);
  require_pointer(kernel, "kv.page_table", kv.page_table);
}

void check_heads(const char* kernel, int n_heads, const PagedKv& kv) {
  require(n_heads >= 1 && n_heads % kv.n_kv_heads == 0, kernel, "n_heads", n_heads,
          fmt::format("a multiple of kv.n_kv_heads = {}", kv.n_kv_heads).c_str());
}

void check_page(const char* kernel, const PagedKv& kv, int row, int sequence, int page) {
  if (page < 0 || page >= kv.max_pages) {
    throw bad_input("{}: row {} needs page {}, the page table has {} pages a sequence", kernel, row, page,
                    kv.max_pages);
  }
  const int physical = kv.physical(sequence, page);
  if (physical < 0 || physical >= kv.n_pages) {
    throw bad_input("{}: page {} of sequence {} (row {}) is at {} of the cache, expected 0 to {}", kernel,
                    page, sequence, row, physical, kv.n_pages - 1);
  }
}

void check_row(const char* kernel, int row, int sequence, int length) {
  if (sequence < 0) throw bad_input("{}: sequence[{}] is {}, expected at least 0", kernel, row, sequence);
  if (length < 1) throw bad_input("{}: length[{}] is {}, expected at least 1", kernel, row, length);
}

void check_rows(const char* kernel, const PagedKv& kv, int n_rows, const int32_t* sequence,
                const int32_t* length) {
  int checked_sequence = -1, checked_pages = 0;  // rows of one sequence share pages: look at each page once
  for (int r = 0; r < n_rows; ++r) {
    const int s = sequence ? sequence[r] : 0;
    check_row(kernel, r, s, length[r]);
    if (s != checked_sequence) checked_sequence = s, checked_pages = 0;
    for (; checked_pages < pages_for(length[r]); ++checked_pages) check_page(kernel, kv, r, s, checked_pages);
  }
}

}  // namespace deltacal::kernels
