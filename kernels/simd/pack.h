// The queries of one tile and key/value head as the inner loops want them.
#pragma once
#include <numbers>

#include "kernels/simd/chunk.h"

namespace deltacal::kernels {

// packed[d][row * group + h] = q[first_row + row][g * group + h][d] * scale * log2(e)
inline void pack_queries(const float* q, int n_heads, int head_dim, float scale, const Tile& tile, int g,
                         int group, float* packed) {
  const float factor = float(double(scale) * std::numbers::log2e);
  const int n = tile.n_rows * group;
  for (int i = 0; i < n; ++i) {
    const size_t head = size_t(tile.first_row + i / group) * size_t(n_heads) + size_t(g * group + i % group);
    const float* from = q + head * size_t(head_dim);
    for (int d = 0; d < head_dim; ++d) packed[size_t(d) * size_t(n) + size_t(i)] = from[d] * factor;
  }
}

// Keys that each row sees of the tile's last page, 1 .. 16.
inline void last_page_keys(const int32_t* length, const Tile& tile, int* keys) {
  for (int r = 0; r < tile.n_rows; ++r) keys[r] = length[tile.first_row + r] - tile.last_page * page_size;
}

}  // namespace deltacal::kernels
