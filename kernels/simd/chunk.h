// How the attention kernels cut their work: chunks of pages, tiles of rows.
//
// A chunk is a fixed number of consecutive entries of a row's own list of pages. The softmax of a chunk is
// taken under the chunk's own maximum, and the chunks are merged in order. So every rounding of a row is
// decided by its own list, not by the rows beside it, the thread or the order in which chunks are computed.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/paged.h"

namespace deltacal::kernels {

inline constexpr int chunk_pages = 16;
inline constexpr int chunk_keys = chunk_pages * page_size;  // 256

// Consecutive rows that attend to the same pages: one row with a list, or rows of one sequence whose lengths
// end in the same page.
struct Tile {
  int first_row = 0, n_rows = 0;
  int sequence = 0;
  int n_pages = 0;
  int last_page = 0;              // the logical page in which the rows' lengths end
  const int32_t* list = nullptr;  // [n_pages] logical pages; null: 0 .. n_pages-1

  int n_chunks() const { return (n_pages + chunk_pages - 1) / chunk_pages; }
  int page(int index) const { return list ? list[index] : index; }
};

// While a page is worked on, the page so many places later is fetched: pages lie anywhere in the cache, and
// the processor's own prefetching stops at their ends.
inline constexpr int pages_ahead = 4;

// One chunk of a tile for one key/value head: where its pages lie. Behind the n_pages of either array lie the
// pages that are read next, for prefetching alone.
struct Chunk {
  int n_pages = 0;
  int partial = -1;  // index of the page in which the rows' lengths end, -1: not in this chunk
  const void* keys[chunk_pages + pages_ahead];    // [head_dim, page_size] each
  const void* values[chunk_pages + pages_ahead];  // [page_size, head_dim] each
};

enum class Reads { keys, keys_and_values };

inline Chunk chunk_of(const PagedKv& kv, const Tile& tile, int g, int chunk, Reads reads) {
  const size_t bytes = kv.type == KvType::f32 ? sizeof(float) : sizeof(bf16);
  const auto in = [&](const void* array, int index) {
    const int page = kv.physical(tile.sequence, tile.page(index));
    return static_cast<const char*>(array) + bytes * kv.page_offset(page, g);
  };
  const int first = chunk * chunk_pages, end = std::min(first + chunk_pages, tile.n_pages);
  Chunk c;
  c.n_pages = end - first;
  for (int i = 0; i < c.n_pages; ++i) {
    c.keys[i] = in(kv.keys, first + i);
    c.values[i] = in(kv.values, first + i);
    if (tile.page(first + i) == tile.last_page) c.partial = i;
  }
  for (int i = 0; i < pages_ahead; ++i) {
    const char* next = in(kv.keys, std::min(end + i, tile.n_pages - 1));
    c.keys[c.n_pages + i] = reads == Reads::keys ? next : c.values[std::min(i, c.n_pages - 1)];
    c.values[c.n_pages + i] = next;
  }
  return c;
}

// Rows in order, at most `max_rows` a tile. list_length[r] < 0, or no list: the row attends to all its pages.
inline std::vector<Tile> tiles_of(int n_rows, int max_rows, const int32_t* sequence, const int32_t* length,
                                  const int32_t* list = nullptr, const int32_t* list_length = nullptr,
                                  int list_stride = 0) {
  std::vector<Tile> tiles;
  bool open = false;  // the last tile may take another row
  for (int r = 0; r < n_rows; ++r) {
    const int s = sequence ? sequence[r] : 0, last = page_of(length[r] - 1);
    const bool has_list = list && list_length[r] >= 0;
    if (open && !has_list && tiles.back().sequence == s && tiles.back().last_page == last &&
        tiles.back().n_rows < max_rows) {
      ++tiles.back().n_rows;
      continue;
    }
    const int32_t* own = has_list ? list + size_t(r) * size_t(list_stride) : nullptr;
    tiles.push_back({r, 1, s, has_list ? list_length[r] : last + 1, last, own});
    open = !has_list;
  }
  return tiles;
}

}  // namespace deltacal::kernels
