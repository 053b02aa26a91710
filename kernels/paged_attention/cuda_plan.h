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

constexpr DELTACAL_HOST_DEVICE int divide_up(int a, int b) {
  return (a + b - 1) / b;
}

// Pages that a row of `length` keys attends to under a list prefix of `prefix` pages; all of them where the
// prefix is negative or holds them all.
constexpr DELTACAL_HOST_DEVICE int attended_pages(int length, int prefix) {
  const int all = length > 0 ? pages_for(length) : 0;
  return prefix < 0 || prefix >= all ? all : prefix;
}

// Units a block takes: a multiple of its warps, and so many that no item of `longest` pages has more than
// max_parts. Short items that are about as many as there are SMs, as in a sparse layer of 32 rows and four
// key/value heads, are not cut at all: that saves merging them, and a block an SM can have enough copies
// under way.
constexpr DELTACAL_HOST_DEVICE int chunk_units(int total, int longest, int n_blocks, int n_warps) {
  const int even = divide_up(total, n_blocks), parts = divide_up(longest, max_parts - 1);
  int least = even > parts ? even : parts;
  const int items = longest > 0 ? divide_up(total, longest) : 0;
  if (longest <= 128 && items <= n_blocks && 16 * items >= 15 * n_blocks) least = longest;
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

// Place of the pair of dimensions 2x, 2x + 1 in row r of a warp's outputs in shared memory, in pairs.
// Permuted so that the lanes of four rows, which hold the same four pairs, meet different banks.
constexpr DELTACAL_HOST_DEVICE int pair_place(int head_dim, int r, int x) {
  return r * (head_dim / 2) + (x ^ ((r & 3) << 2));
}

}  // namespace deltacal::kernels::cuda::paged_attention
