// How a linear layer is spread over blocks: arithmetic alone, the same in the kernel and in its tests.
//
// The rows of the weight are cut into tiles, a tile's columns into units of one pipeline stage. Units are
// counted through, tile by tile; block b takes the units [begin(b), begin(b + 1)): of equal number, or one
// more. What a block does of one tile is a part; tiles of several parts are added up by the block that
// finishes last.
#pragma once
#include "kernels/cuda/paged.h"

namespace deltacal::kernels::cuda::linear {

constexpr DELTACAL_HOST_DEVICE int divide_up(int a, int b) {
  return (a + b - 1) / b;
}

struct Plan {
  int n_tiles = 0, tile_units = 0, n_blocks = 0;

  constexpr DELTACAL_HOST_DEVICE long long units() const { return (long long)(n_tiles)*tile_units; }
  constexpr DELTACAL_HOST_DEVICE int begin(int block) const { return int(block * units() / n_blocks); }
  // The block that has the unit.
  constexpr DELTACAL_HOST_DEVICE int block_of(int unit) const {
    return int(((unit + 1LL) * n_blocks - 1) / units());
  }
  // Where a block keeps its part of the tile that begins at unit `first`: a block cuts at most two tiles, the
  // one it begins within or with, and the one it ends within.
  constexpr DELTACAL_HOST_DEVICE int part_slot(int block, int first) const {
    return 2 * block + (first > begin(block) ? 1 : 0);
  }
};

}  // namespace deltacal::kernels::cuda::linear
