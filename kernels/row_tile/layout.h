// Where the numbers of a row tile lie: 16 query rows of one head against pages of contiguous keys (or
// values), on tensor cores with mma m16n8k16. What here needs no GPU is tested without one.
//
// A dot product does not care in which order its dimensions come, as long as both sides agree. So the
// dimensions are dealt to the slots of the instruction such that every lane's share of a row is whole 16-byte
// chunks: lane 4 r + t holds dimensions 32 c + 8 t .. 32 c + 8 t + 7 of row r (of query, key or value alike),
// which serve the steps 2 c (first four) and 2 c + 1 (last four). Keys and values then go from global memory
// into registers with full sectors and no shuffle, queries come out of shared memory as they went in.
#pragma once

#include "kernels/cuda/paged.h"

namespace deltacal::kernels::cuda::row_tile {

inline constexpr int tile_rows = 16;  // rows of the left operand of one mma
inline constexpr int n_warps = 8;     // of a block; each has pages of its own and sees all rows and heads
inline constexpr int n_threads = 32 * n_warps;

// So many keys at most: a grid has 65,535 blocks in its second dimension.
inline constexpr int max_keys = 1 << 22;

// Bytes from one staged row to the next in shared memory. Eight lanes that read together hold two rows of 64
// bytes: an odd multiple of 64 puts them into all 32 banks.
DELTACAL_HOST_DEVICE constexpr int row_bytes(int head_dim) {
  return 2 * head_dim + (2 * head_dim % 128 == 64 ? 0 : 64);
}
// Where chunk c of a lane's share of `row` lies, in bytes from the first staged row.
DELTACAL_HOST_DEVICE constexpr int chunk_byte(int head_dim, int row, int lane, int c) {
  return row * row_bytes(head_dim) + 64 * c + 16 * (lane % 4);
}

// The dimension in slot k (0..15) of step `step` (0..head_dim / 16 - 1), of either operand.
DELTACAL_HOST_DEVICE constexpr int dimension(int step, int k) {
  return 32 * (step / 2) + 8 * (k % 8 / 2) + 4 * (step % 2) + 2 * (k / 8) + k % 2;
}

// The lane's results e (0..3) of one mma: row of the tile, and column among the 8 keys.
DELTACAL_HOST_DEVICE constexpr int result_row(int lane, int e) {
  return lane / 4 + 8 * (e / 2);
}
DELTACAL_HOST_DEVICE constexpr int result_column(int lane, int e) {
  return 2 * (lane % 4) + e % 2;
}

// 2^-e for a largest absolute value in [2^e, 2^(e+1)), so that scaled numbers lie in (-2, 2); exponents past
// +-100 are left to that bound, 0 and numbers that are not finite are not scaled. `bits` are those of the
// float.
DELTACAL_HOST_DEVICE constexpr int scale_exponent(unsigned bits) {
  const int field = int(bits >> 23 & 0xff);
  if (field == 0xff || (bits & 0x7fffffffu) == 0) return 0;
  const int e = field - 127;
  return e < -100 ? 100 : e > 100 ? -100 : -e;
}
// The bits of 2^e as a float, -126 <= e <= 127.
DELTACAL_HOST_DEVICE constexpr unsigned power_bits(int e) {
  return unsigned(e + 127) << 23;
}

}  // namespace deltacal::kernels::cuda::row_tile
