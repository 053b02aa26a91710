// What a warp does with a row tile (kernels/row_tile/layout.h).
#pragma once
#include <cstdint>

#include "kernels/row_tile/instructions.cuh"
#include "kernels/row_tile/layout.h"

namespace deltacal::kernels::cuda::row_tile {

__device__ __forceinline__ int lane_of_thread() {
  return int(threadIdx.x) % 32;
}
__device__ __forceinline__ int warp_of_thread() {
  return int(threadIdx.x) / 32;
}

// Over the four lanes that hold the columns of one row.
__device__ __forceinline__ float quad_sum(float x) {
  return lanes_sum<4>(x);
}
__device__ __forceinline__ float quad_max(float x) {
  x = max_nan(x, __shfl_xor_sync(all_lanes, x, 1));
  return max_nan(x, __shfl_xor_sync(all_lanes, x, 2));
}

// Which keys the rows of a tile see: row r sees keys 0..position[r].
struct Sight {
  int position[2];        // of the lane's two rows; -1 past the last row
  int longest, shortest;  // over the tile's rows

  __device__ Sight(const int32_t* positions, int first_row, int n_rows, int n_keys) {
    const int row = first_row + lane_of_thread() / 4;
    longest = -1, shortest = n_keys - 1;
    for (int i = 0; i < 2; ++i) {
      const bool there = row + 8 * i < n_rows;
      position[i] = there ? min(positions[row + 8 * i], n_keys - 1) : -1;
      longest = max(longest, position[i]);
      if (there) shortest = min(shortest, position[i]);
    }
    for (int step = 4; step < 32; step *= 2) {
      longest = max(longest, __shfl_xor_sync(all_lanes, longest, step));
      shortest = min(shortest, __shfl_xor_sync(all_lanes, shortest, step));
    }
  }
  // Whether some row does not see all keys before `end`.
  __device__ bool cut_before(int end) const { return end - 1 > shortest; }
  __device__ bool sees_page(int i, int page) const { return page * 16 <= position[i]; }
};

// The lane's share of `n_tiles` times 8 keys or values, from `first` on, of one key/value head: [n_keys,
// head_dim] with `token_stride` elements from token to token. Keys from n_keys on are 0.
template <int head_dim, int n_tiles, class T>
__device__ __forceinline__ void load_keys(uint4 (&keys)[n_tiles][head_dim / 32], const T* head,
                                          int64_t token_stride, int first, int n_keys) {
  const int lane = lane_of_thread();
#pragma unroll
  for (int n = 0; n < n_tiles; ++n) {
    const int key = first + 8 * n + lane / 4;
    const uint4* from = reinterpret_cast<const uint4*>(head + key * token_stride + 8 * (lane % 4));
#pragma unroll
    for (int c = 0; c < head_dim / 32; ++c)
      keys[n][c] = key < n_keys ? __ldg(from + 4 * c) : make_uint4(0, 0, 0, 0);
  }
}

// sum[n] [16 rows, 8 keys] += the products of the rows staged at `rows` with the keys.
template <class T, int head_dim, int n_tiles>
__device__ __forceinline__ void add_products(float (&sum)[n_tiles][4], const char* rows,
                                             const uint4 (&keys)[n_tiles][head_dim / 32]) {
  const int lane = lane_of_thread();
#pragma unroll
  for (int c = 0; c < head_dim / 32; ++c) {
    const uint4 low = *reinterpret_cast<const uint4*>(rows + chunk_byte(head_dim, lane / 4, lane, c));
    const uint4 high = *reinterpret_cast<const uint4*>(rows + chunk_byte(head_dim, lane / 4 + 8, lane, c));
    const uint32_t first[4] = {low.x, high.x, low.y, high.y}, second[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
    for (int n = 0; n < n_tiles; ++n) mma<T>(sum[n], first, keys[n][c].x, keys[n][c].y);
#pragma unroll
    for (int n = 0; n < n_tiles; ++n) mma<T>(sum[n], second, keys[n][c].z, keys[n][c].w);
  }
}

// Copies `n_heads` heads of the tile's rows into shared memory, [n_heads, 16, row_bytes], by all threads of
// the block. `from` is the tile's first row and the first head, rows `row_stride` elements apart; rows from
// n_rows on are 0. Complete after copies_done() and a barrier.
template <int head_dim, class T>
__device__ __forceinline__ void stage_rows(char* to, const T* from, int64_t row_stride, int n_heads,
                                           int n_rows) {
  constexpr int chunks = head_dim / 8;
#pragma unroll 1
  for (int i = int(threadIdx.x); i < n_heads * tile_rows * chunks; i += n_threads) {
    const int chunk = i % chunks, row = i / chunks % tile_rows, head = i / chunks / tile_rows;
    const bool there = row < n_rows;
    copy_or_clear(to + (head * tile_rows + row) * row_bytes(head_dim) + 16 * chunk,
                  from + (there ? row : 0) * row_stride + head * head_dim + 8 * chunk, there);
  }
}

// Of n_heads heads, in powers of 2: [n_heads, 16]. A head without a finite one has no softmax: NaN.
__device__ __forceinline__ void stage_lse(float* to, const float* from, int64_t row_stride, int n_heads,
                                          int n_rows) {
#pragma unroll 1
  for (int i = int(threadIdx.x); i < n_heads * tile_rows; i += n_threads) {
    const int row = i % tile_rows, head = i / tile_rows;
    const float lse = row < n_rows ? from[row * row_stride + head] : 0.0f;
    to[i] = isfinite(lse) ? lse * log2_e : __int_as_float(0x7fffffff);
  }
}

// Logits (products not yet scaled) to probabilities, 0 where the row does not see the key. `lse` are those of
// the lane's two rows, `first` is the tiles' first key.
template <int n_tiles>
__device__ __forceinline__ void to_probabilities(float (&x)[n_tiles][4], float scale_log2e,
                                                 const float (&lse)[2], const Sight& sight, int first) {
#pragma unroll
  for (int n = 0; n < n_tiles; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) x[n][e] = exp2_fast(fmaf(x[n][e], scale_log2e, -lse[e / 2]));
  if (!sight.cut_before(first + 8 * n_tiles)) return;
  const int lane = lane_of_thread();
#pragma unroll
  for (int n = 0; n < n_tiles; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if (first + 8 * n + result_column(lane, e) > sight.position[e / 2]) x[n][e] = 0;
}

}  // namespace deltacal::kernels::cuda::row_tile
