// How a linear layer is spread over blocks: arithmetic alone, the same in the kernel and in its tests.
//
// The rows of the weight are cut into tiles, a tile's columns into units, of `segment` columns for each of
// the warps side by side: a stage of the pipeline, or a part of one where the weight is small. Units are
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
  int segment = 0, column_warps = 0;

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
    plan.n_blocks = plan.units() < n_sms ? int(plan.units()) : n_sms;
    if (whole) plan.n_blocks = n_tiles;
    const long long most = (plan.units() + plan.n_blocks - 1) / plan.n_blocks;
    const long long cost = most * segment * (segment < 96 ? 5 : 4);
    if (best.segment == 0 || cost * 10 < least * 9) best = plan, least = cost;
  }
  return best;
}

}  // namespace deltacal::kernels::cuda::linear
