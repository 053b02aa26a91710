// How a linear layer of many rows, or of a large weight, is spread over clusters of blocks: arithmetic alone,
// the same in the kernel and in its tests.
//
// The rows of the weight are cut into tiles, a tile's columns into units of 64. A cluster has a tile at a
// time, its blocks share the tile's units, evenly or one more. For clusters of one size there are as many
// tiles as clusters run at a time, or a multiple where one tile a cluster would be too tall. Of the sizes,
// one where a block then has tall tiles for itself; else that which costs least: x crosses the second-level
// cache once a tile, and the more blocks share a tile, the more there is to add up.
#pragma once
#include "kernels/cuda/paged.h"
#include "kernels/cuda/tensor_map.h"

namespace deltacal::kernels::cuda::linear {

struct BoxPlan {
  static constexpr int row_step = 16;
  static constexpr int max_tile_rows = 320;  // of one tile a cluster: five warpgroups
  static constexpr int max_round_rows =
      160;  // of several: while a tile is written, more of the next is asked for
  static constexpr int min_tile_rows = 96;  // less is worth sharing tiles

  int tile_rows = 0, n_tiles = 0, tile_units = 0;
  int log2_cluster = 0, n_clusters = 0;

  constexpr DELTACAL_HOST_DEVICE int cluster() const { return 1 << log2_cluster; }  // blocks of a cluster
  constexpr DELTACAL_HOST_DEVICE int rank(int block) const { return block & (cluster() - 1); }
  constexpr DELTACAL_HOST_DEVICE int first_tile(int block) const { return block >> log2_cluster; }
  // Units of block `rank` of a cluster: [begin(rank), begin(rank + 1)).
  constexpr DELTACAL_HOST_DEVICE int begin(int rank) const { return rank * tile_units >> log2_cluster; }
  // Of all tiles of a block, at most.
  constexpr int most_units() const {
    return divide_up(tile_units, cluster()) * divide_up(n_tiles, n_clusters);
  }
  constexpr int warpgroups() const { return divide_up(tile_rows, 64); }
};

// For clusters of 2^log2_cluster blocks, `at_a_time` of which run at a time.
constexpr BoxPlan plan_boxes(int weight_rows, int k, int log2_cluster, int at_a_time) {
  BoxPlan plan;
  const int rounds = divide_up(weight_rows, at_a_time) <= BoxPlan::max_tile_rows
                         ? 1
                         : divide_up(weight_rows, at_a_time * BoxPlan::max_round_rows);
  plan.tile_rows =
      divide_up(divide_up(weight_rows, at_a_time * rounds), BoxPlan::row_step) * BoxPlan::row_step;
  plan.n_tiles = divide_up(weight_rows, plan.tile_rows);
  plan.tile_units = divide_up(k, box_columns);
  plan.log2_cluster = log2_cluster;
  plan.n_clusters = plan.n_tiles < at_a_time ? plan.n_tiles : at_a_time;
  return plan;
}

// How many clusters of 1, 2, 4 and 8 blocks a device runs at a time, a block a multiprocessor.
struct Clusters {
  static constexpr int n_sizes = 4;
  int at_a_time[n_sizes] = {};
};

// What a plan costs for each of 64 rows of x, in numbers that all blocks read through the second-level cache:
// x; the adding up, for a block sends its sums at 1/216 of that rate (H200: about 25 of 5400 GB/s), and a sum
// is as wide as two numbers; and the weight, which memory delivers at 5/6 of that rate and one block reads at
// about 1/90: few blocks are not fast enough for memory.
constexpr long long box_cost(const BoxPlan& plan, int weight_rows, int k) {
  const long long tile = plan.tile_rows, cluster = plan.cluster(), x = (long long)(plan.n_tiles) * k,
                  sums = 432 * tile * (cluster - 1) / cluster, of_block = tile * k / cluster * 90 / 64,
                  of_memory = (long long)(weight_rows)*k * 6 / 5 / 64;
  return x + sums + (of_block > of_memory ? of_block : of_memory);
}

// A block has tiles for itself where they are tall enough; else clusters have one each, of the size that
// costs least.
constexpr BoxPlan plan_boxes(int weight_rows, int k, const Clusters& clusters) {
  BoxPlan best = plan_boxes(weight_rows, k, 0, clusters.at_a_time[0]);
  if (best.tile_rows >= BoxPlan::min_tile_rows) return best;
  for (int i = 1; i < Clusters::n_sizes; ++i) {
    const int n = clusters.at_a_time[i];
    if (weight_rows > n * BoxPlan::max_tile_rows) break;
    const BoxPlan plan = plan_boxes(weight_rows, k, i, n);
    if (plan.cluster() <= plan.tile_units && box_cost(plan, weight_rows, k) < box_cost(best, weight_rows, k))
      best = plan;
  }
  return best;
}

// Shared memory of a block, for `x_rows` rows of x, of which those past n_rows are zero: the ring; what
// blocks of the cluster send of their sums; barriers. The last warpgroup may read up to 48 rows past a tile's
// last, into what follows: its sums of them are not used. No more stages than a block has units, and two
// where it has as many: it is at one while it waits for another. `room` leaves 6 KB of a multiprocessor's
// shared memory for blocks of the small kernel that comes next.
struct BoxRing {
  static constexpr int row_bytes = box_columns * 2, past_end = 48 * row_bytes;
  static constexpr int max_stages = 16, barrier_bytes = 8 * (2 * max_stages + 1), room = 221 * 1024;

  int weight_bytes, bytes;  // of a stage
  int n_stages = 0;
  int owned;  // fragments that a block adds up, at most
  int sums_bytes;

  constexpr BoxRing(const BoxPlan& plan, int x_rows)
      : weight_bytes(plan.tile_rows * row_bytes),
        bytes(weight_bytes + x_rows * row_bytes),
        owned(divide_up(x_rows / 8, plan.cluster())),
        sums_bytes(plan.cluster() == 1 ? 0 : plan.cluster() * owned * fragment_bytes(plan)) {
    if (sums_bytes < past_end) sums_bytes = past_end;
    n_stages = (room - sums_bytes - barrier_bytes) / bytes;
    if (n_stages > max_stages) n_stages = max_stages;
    if (n_stages > plan.most_units()) n_stages = plan.most_units();
  }
  // Of all warps that have rows of a tile: eight rows of x each.
  static constexpr DELTACAL_HOST_DEVICE int fragment_bytes(const BoxPlan& plan) {
    return plan.tile_rows * 8 * int(sizeof(float));
  }
  constexpr int shared_bytes() const { return n_stages * bytes + sums_bytes + barrier_bytes; }
};

}  // namespace deltacal::kernels::cuda::linear
