// The paged KV cache as kernels see it, and rows. A row is one query position: in decoding the rows are
// different sequences, in replay they are positions of one sequence.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>

#include "core/pages.h"

namespace deltacal::kernels {

// bfloat16 as stored: the upper half of a float.
struct bf16 {
  uint16_t bits;
};

enum class KvType { f32, bf16 };

// Pages of one layer. Page p of key/value head g begins at element (p * n_kv_heads + g) * page_size *
// head_dim of either array. On the CPU a key page is stored dim-major, [head_dim, page_size], so that the 16
// keys of a page fill whole vectors; a value page is token-major, [page_size, head_dim]. What lies in a page
// past a row's length is never part of that row's result, whatever its bits are: a fresh page need not be
// cleared.
struct PagedKv {
  KvType type = KvType::f32;
  int n_kv_heads = 0, head_dim = 0;
  int n_pages = 0;         // allocated
  void* keys = nullptr;    // [n_pages, n_kv_heads, head_dim, page_size]
  void* values = nullptr;  // [n_pages, n_kv_heads, page_size, head_dim]
  // Physical page of each logical page. Rows of one call share one sequence unless row_table says otherwise.
  const int32_t* page_table = nullptr;  // [n_sequences, max_pages]
  int max_pages = 0;                    // row length of page_table

  size_t page_elements() const { return size_t(page_size) * size_t(head_dim); }
  // Physical page of logical page `page`.
  int physical(int sequence, int page) const {
    return page_table[size_t(sequence) * size_t(max_pages) + size_t(page)];
  }
  // First element of physical page `page` of key/value head g, in either array.
  size_t page_offset(int page, int g) const {
    return (size_t(page) * size_t(n_kv_heads) + size_t(g)) * page_elements();
  }
};

inline float to_float(float x) {
  return x;
}
inline float to_float(bf16 x) {
  return std::bit_cast<float>(uint32_t{x.bits} << 16);
}

// Rounds to the nearest, ties to even; a NaN stays one.
inline bf16 to_bf16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {uint16_t((bits >> 16) | 0x40u)};
  return {uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

// One element of the cache, for the references.
inline float cache_element(const PagedKv& kv, const void* array, size_t index) {
  return kv.type == KvType::f32 ? static_cast<const float*>(array)[index]
                                : to_float(static_cast<const bf16*>(array)[index]);
}
inline float key_at(const PagedKv& kv, int sequence, int g, int position, int d) {
  const size_t page = kv.page_offset(kv.physical(sequence, page_of(position)), g);
  return cache_element(kv, kv.keys, page + size_t(d) * page_size + size_t(position % page_size));
}
inline float value_at(const PagedKv& kv, int sequence, int g, int position, int d) {
  const size_t page = kv.page_offset(kv.physical(sequence, page_of(position)), g);
  return cache_element(kv, kv.values, page + size_t(position % page_size) * size_t(kv.head_dim) + size_t(d));
}

}  // namespace deltacal::kernels
