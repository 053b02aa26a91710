// How the attention kernels cut their work: chunks of pages, tiles of rows.
//
// A chunk is a fixed number of consecutive entries of a row's own list of pages. The softmax of a chunk is
// taken under the chunk's own maximum, and the chunks are merged in order. So every rounding of a row is
// decided by its own list, not by the rows beside it, the thread or the order in which chunks are computed.
#pragma once
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

// One chunk of a tile for one key/value head: where its pages lie.
struct Chunk {
  int n_pages = 0;
  int partial = -1;                 // index of the page in which the rows' lengths end, -1: not in this chunk
  const void* keys[chunk_pages];    // [head_dim, page_size] each
  const void* values[chunk_pages];  // [page_size, head_dim] each
};

inline Chunk chunk_of(const PagedKv& kv, const Tile& tile, int g, int chunk) {
  const size_t bytes = kv.type == KvType::f32 ? sizeof(float) : sizeof(bf16);
  Chunk c;
  for (int i = chunk * chunk_pages; i < tile.n_pages && c.n_pages < chunk_pages; ++i, ++c.n_pages) {
    const int page = tile.page(i);
    const size_t offset = bytes * kv.page_offset(kv.physical(tile.sequence, page), g);
    c.keys[c.n_pages] = static_cast<const char*>(kv.keys) + offset;
    c.values[c.n_pages] = static_cast<const char*>(kv.values) + offset;
    if (page == tile.last_page) c.partial = c.n_pages;
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
