// The rules that the kernels' parameters share. Each broken rule is an Error that names the kernel, the
// field, what it holds and what it should hold.
#pragma once
#include "core/error.h"
#include "kernels/paged.h"

namespace deltacal::kernels {

template <class T>
void require(bool ok, const char* kernel, const char* field, const T& found, const char* expected) {
  if (!ok) throw bad_input("{}: {} is {}, expected {}", kernel, field, found, expected);
}

inline void require_pointer(const char* kernel, const char* field, const void* pointer) {
  require(pointer != nullptr, kernel, field, "null", "an array");
}

// The cache itself: shapes and arrays.
void check_cache(const char* kernel, const PagedKv&);

// Heads that divide into the cache's key/value heads.
void check_heads(const char* kernel, int n_heads, const PagedKv&);

// Logical page `page` of a row lies in the page table and is allocated.
void check_page(const char* kernel, const PagedKv&, int row, int sequence, int page);

// Sequence and length of one row.
void check_row(const char* kernel, int row, int sequence, int length);

// Rows that see their first length[r] keys: lengths, sequences, and all their pages.
void check_rows(const char* kernel, const PagedKv&, int n_rows, const int32_t* sequence,
                const int32_t* length);

}  // namespace deltacal::kernels
