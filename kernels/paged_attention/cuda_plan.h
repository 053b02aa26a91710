// How paged attention on a device is spread over blocks: arithmetic alone, the same in the kernel and in its
// tests.
//
// A unit is one page of one tile of heads (at most 16 query heads of one key/value head) of one row. Units
// are counted through: rows in order, within a row its tiles, within a tile the pages it attends to, in the
// order of its list. The pages of one row and tile are an item. Block b takes the units [b chunk, (b + 1)
// chunk): of equal number for all blocks, whatever the lengths of the rows are. What a block does of one item
// is a part; items of several parts are merged by the block that finishes last.
#pragma once
#include "kernels/cuda/paged.h"

namespace deltacal::kernels::cuda::paged_attention {

constexpr int tile_heads = 16;  // query heads of one matrix product
constexpr int max_parts = 128;  // of an item

// Pages that a row of `length` keys attends to under a list prefix of `prefix` pages; all of them where the
// prefix is negative or holds them all.
constexpr DELTACAL_HOST_DEVICE int attended_pages(int length, int prefix) {
  const int all = length > 0 ? pages_for(length) : 0;
  return prefix < 0 || prefix >= all ? all : prefix;
}

// Units a block takes: so many that no item of `longest` pages has more than max_parts, and a multiple of its
// warps. Short items that are about as many as there are SMs, as in a sparse layer of 32 rows and four
// key/value heads, are not cut at all: that saves merging them, and a block an SM can have enough copies
// under way. Where all items have fewer pages than a block has warps, and blocks suffice, it is the pages of
// the longest: items of equal length then have a block each; within one they come one after the other, 2 us
// each.
constexpr DELTACAL_HOST_DEVICE int chunk_units(int total, int longest, int n_blocks, int n_warps) {
  const int even = divide_up(total, n_blocks), parts = divide_up(longest, max_parts - 1);
  if (longest < n_warps && even <= longest) return longest > 0 ? longest : n_warps;
  int least = even > parts ? even : parts;
  if (longest > 0 && longest <= 128) {
    const int items = divide_up(total, longest);
    if (items <= n_blocks && 16 * items >= 15 * n_blocks) least = longest;
  }
  return divide_up(least > 1 ? least : 1, n_warps) * n_warps;
}

// Item of units [first, end): its first and last block.
struct Blocks {
  int first, last;
};
constexpr DELTACAL_HOST_DEVICE Blocks blocks_of(int first, int end, int chunk) {
  return {first / chunk, (end - 1) / chunk};
}

// Where block `block` keeps its part of an item that begins at unit `first`: a block cuts at most two items,
// the one it begins within or with, and the one it ends within.
constexpr DELTACAL_HOST_DEVICE int part_slot(int block, int first, int chunk) {
  return 2 * block + (first > block * chunk ? 1 : 0);
}

// When the logits that a call keeps (PageLogits) go to memory. A few writes among many reads cost memory
// three times what as many reads do: it turns around for every few of them. Hence they go in bursts. Keys and
// values are the first to leave the second-level cache, so the logits stay there; when the cache holds as
// many as it can, keys and values are for a while not the first to leave, and drive the logits out. Those of
// the last period stay for page_score. Counted in pages of one warp; all warps of the device are about as
// far. Before sm_90 pages are never the first to leave: there is no burst.
struct Bursts {
  int hold = 0;   // pages whose logits the cache holds
  int drain = 0;  // pages that drive them out
};

// n_warps: of the device. record: bytes of a page's logits; page: of its keys and values. Logits that are
// half of the cache stay beside what streams through; what then passes through twice the cache drives them
// out. On an H200 a Δ-layer of 32 rows of 32K (7B shape, 533 us) takes as long with a third to two thirds of
// the cache, 7 us longer with a fifth, 12 without bursts.
constexpr DELTACAL_HOST_DEVICE Bursts bursts_of(int l2_bytes, int n_warps, int record, int page) {
  const int hold = l2_bytes / 2 / (n_warps * record), drain = 2 * (l2_bytes / (n_warps * page));
  return {hold > 1 ? hold : 1, drain};
}

// The bursts of a warp's n pages: periods of equal length, at the end of each but the last a burst.
struct BurstPlan {
  int period = 1, last = 0;  // pages of a period; first page of the last
  int quiet = 0;             // pages of a period before its burst

  constexpr DELTACAL_HOST_DEVICE BurstPlan(Bursts bursts, int n) {
    if (bursts.hold == 0 || n <= bursts.hold) return;
    const int periods = divide_up(n, bursts.hold);
    period = divide_up(n, periods);
    last = period * (periods - 1);
    quiet = period - bursts.drain;
  }
  constexpr DELTACAL_HOST_DEVICE bool drains(int page) const { return page < last && page % period >= quiet; }
};

// Place of the pair of dimensions 2x, 2x + 1 in row r of a warp's outputs in shared memory, in pairs.
// Permuted so that the lanes of four rows, which hold the same four pairs, meet different banks.
constexpr DELTACAL_HOST_DEVICE int pair_place(int head_dim, int r, int x) {
  return r * (head_dim / 2) + (x ^ ((r & 3) << 2));
}

}  // namespace deltacal::kernels::cuda::paged_attention
