// How a linear layer is spread over blocks: arithmetic alone, the same in the kernel and in its tests.
//
// The rows of the weight are cut into tiles, a tile's columns into units, of `segment` columns for each of
// the warps side by side: a stage of the ring, or a part of one where the weight is small. Units are
// counted through, tile by tile; block b takes the units [begin(b), begin(b + 1)): of equal number, or one
// more. What a block does of one tile is a part; tiles of several parts are added up by the block that
// finishes last.
#pragma once
#include "kernels/cuda/paged.h"

namespace deltacal::kernels::cuda::linear {

struct Plan {
  int n_tiles = 0, tile_units = 0, n_blocks = 0;
  int segment = 0, column_warps = 0;

  // Fewer than 2^31. All in 32 bits: a division of 64 is a hundred instructions, which a device fetches
  // before the first copy of a short kernel.
  constexpr DELTACAL_HOST_DEVICE int units() const { return n_tiles * tile_units; }
  // The first more() blocks have one unit more than the others, which have least().
  constexpr DELTACAL_HOST_DEVICE int least() const { return int(unsigned(units()) / unsigned(n_blocks)); }
  constexpr DELTACAL_HOST_DEVICE int more() const { return units() - least() * n_blocks; }
  constexpr DELTACAL_HOST_DEVICE int begin(int block) const {
    return block * least() + (block < more() ? block : more());
  }
  // The block that has the unit.
  constexpr DELTACAL_HOST_DEVICE int block_of(int unit) const {
    const int n = least(), of_longer = more() * (n + 1);
    return unit < of_longer ? int(unsigned(unit) / unsigned(n + 1))
                            : more() + int(unsigned(unit - of_longer) / unsigned(n));
  }
  // Where a block keeps its part of the tile that begins at unit `first`: a block cuts at most two tiles, the
  // one it begins within or with, and the one it ends within.
  constexpr DELTACAL_HOST_DEVICE int part_slot(int block, int first) const {
    return 2 * block + (first > begin(block) ? 1 : 0);
  }
};

// For `n_tiles` tiles of `k` columns on `n_sms` multiprocessors. `whole`: a block a tile, so that nothing is
// to be added up; of no more tiles than multiprocessors. Segments are as long as can be, up to `longest`
// columns, for copies of few bytes are slow; shorter where a block would otherwise have much more than its
// share.
constexpr Plan make_plan(int n_tiles, int k, int column_warps, int longest, int n_sms, bool whole) {
  Plan best;
  long long least = 0;
  for (int segment = longest; segment >= 64; segment -= 32) {
    Plan plan;
    plan.n_tiles = n_tiles, plan.segment = segment, plan.column_warps = column_warps;
    plan.tile_units = divide_up(k, segment * column_warps);
    plan.n_blocks = plan.units() < n_sms ? plan.units() : n_sms;
    if (whole) plan.n_blocks = n_tiles;
    const long long most = plan.least() + (plan.more() > 0 ? 1 : 0);
    const long long cost = most * segment * (segment < 96 ? 5 : 4);
    if (best.segment == 0 || cost * 10 < least * 9) best = plan, least = cost;
  }
  return best;
}

}  // namespace deltacal::kernels::cuda::linear
