// Stages in shared memory, and products of what lies there.
//
// The order in which mma sums over k is free as long as both operands agree: lane (g, t) = (lane / 4, lane %
// 4) takes the eight numbers 8 t .. 8 t + 7 of a chunk of 32 columns, of weight rows g and g + 8 and of input
// row g. They serve two products of 16 columns. So a lane reads 16 bytes of a row as it lies in memory:
// neither ldmatrix nor a permuted copy of the weight is needed. Odd rows lie apart from even ones, half a
// line further: a quarter of a warp, two rows of four lanes, so reads from all banks.
#pragma once
#include "kernels/cuda/copy.cuh"
#include "kernels/linear/cuda.h"
#include "kernels/linear/cuda_plan.h"

namespace deltacal::kernels::cuda::linear {

constexpr int n_warps = 8, n_threads = 32 * n_warps;
constexpr int n_misc = 16;  // bytes of shared memory for a flag

// m_tiles: weight rows of a warp in sixteens. row_warps: warps side by side over the rows of a tile; the
// others are side by side over its columns, and their sums are added up in shared memory. segment: columns of
// a warp in a stage, at most.
template <int m_tiles_, int row_warps_, int segment_>
struct Stage {
  static constexpr int m_tiles = m_tiles_, row_warps = row_warps_, segment = segment_;
  static constexpr int warp_rows = 16 * m_tiles;
  static constexpr int column_warps = n_warps / row_warps;
  static constexpr int rows = warp_rows * row_warps;   // of a tile of the weight
  static constexpr int fragments = m_tiles;            // sums of a warp, in mma's C fragments
  static constexpr int owned = divide_up(fragments, column_warps);  // that it has in the end
  static_assert(owned * n_threads * 4 <= 256 * few_rows, "a part of the workspace");
  static_assert(segment % 64 == 0, "whole lines of 128 bytes");
  static constexpr int weight_row = segment * 2;                               // bytes
  static constexpr int weight_odd = warp_rows / 2 * weight_row + 64;  // where odd rows begin
  static constexpr int warp_bytes = warp_rows * weight_row + 64, weight_bytes = n_warps * warp_bytes;
  // Bytes of shared memory for stages.
  static constexpr DELTACAL_HOST_DEVICE int room(int capability) {
    return (capability >= 90 ? 227 : 163) * 1024 - n_misc;
  }
};

// Offset of row `row` of a stage's weights of a warp.
template <class S>
__device__ __forceinline__ int weight_place(int row) {
  return row / 2 * S::weight_row + (row % 2) * S::weight_odd;
}

// Sum of a fragment: weight rows g (0, 1) and g + 8 (2, 3), input rows 2 t (0, 2) and 2 t + 1 (1, 3).
using Fragment = float[4];

// First column of a warp in a unit, and how many it has there: none or fewer than the plan's at a tile's end.
struct Columns {
  int first, n;
  __device__ Columns(const Params& p, const Plan& plan, int unit, int column_warp) {
    first = (unit * plan.column_warps + column_warp) * plan.segment;
    n = max(0, min(plan.segment, p.k - first));
  }
};

// Row of the weight that is row `row` of those that warps of row place `row_warp` have in a tile. With a gate
// 16 rows are eight of the gate and the same eight of the other half, which so meet in one thread. Rows past
// the last are the last one's.
template <class S>
__device__ __forceinline__ int weight_row(const Params& p, int tile, int row_warp, int row) {
  const int m_tile = tile * (S::rows / 16) + row_warp * S::m_tiles + row / 16, upper = row / 8 % 2,
            g = row % 8;
  return p.gated ? upper * p.n + min(8 * m_tile + g, p.n - 1) : min(16 * m_tile + 8 * upper + g, p.n - 1);
}

// Adds the products of a chunk of 32 columns: all first halves, then all second ones, for one waits for the
// sum of the other.
template <class T, class S>
__device__ __forceinline__ void add_products(const uint4 (&w)[2 * S::m_tiles], uint4 x,
                                             Fragment (&sum)[S::fragments]) {
#pragma unroll
  for (int m = 0; m < S::m_tiles; ++m) {
    const uint32_t a[4] = {w[2 * m].x, w[2 * m + 1].x, w[2 * m].y, w[2 * m + 1].y};
    mma<T>(sum[m], a, x.x, x.y);
  }
#pragma unroll
  for (int m = 0; m < S::m_tiles; ++m) {
    const uint32_t a[4] = {w[2 * m].z, w[2 * m + 1].z, w[2 * m].w, w[2 * m + 1].w};
    mma<T>(sum[m], a, x.z, x.w);
  }
}

}  // namespace deltacal::kernels::cuda::linear
