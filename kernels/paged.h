// The paged KV cache as kernels see it, and rows. A row is one query position: in decoding the rows are different
// sequences, in replay they are positions of one sequence.
#pragma once
#include <cstdint>

#include "core/pages.h"

namespace deltacal::kernels {

// bfloat16 as stored: the upper half of a float.
struct bf16 {
  uint16_t bits;
};

enum class KvType { f32, bf16 };

// Pages of one layer. Page p of key/value head g begins at element (p * n_kv_heads + g) * page_size * head_dim of
// either array. On the CPU a key page is stored dim-major, [head_dim, page_size], so that the 16 keys of a page fill
// whole vectors; a value page is token-major, [page_size, head_dim].
struct PagedKv {
  KvType type = KvType::f32;
  int n_kv_heads = 0, head_dim = 0;
  int n_pages = 0;         // allocated
  void* keys = nullptr;    // [n_pages, n_kv_heads, head_dim, page_size]
  void* values = nullptr;  // [n_pages, n_kv_heads, page_size, head_dim]
  // Physical page of each logical page. Rows of one call share one sequence unless row_table says otherwise.
  const int32_t* page_table = nullptr;  // [n_sequences, max_pages]
  int max_pages = 0;                    // row length of page_table
};

}  // namespace deltacal::kernels
