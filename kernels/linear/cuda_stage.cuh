// A stage of the pipeline: the weights and the inputs of one unit in shared memory, how they come there and
// how they are multiplied.
//
// The order in which mma sums over k is free as long as both operands agree: lane (g, t) = (lane / 4, lane %
// 4) holds the eight numbers 8 t .. 8 t + 7 of a chunk of 32 columns, of weight rows g and g + 8 and of input
// row g. They serve two products of 16 columns. So what a lane multiplies of the weight is what it copied
// itself, 16 bytes of a row each time: neither ldmatrix nor a permuted copy of the weight is needed.
#pragma once
#include "kernels/cuda/copy.cuh"
#include "kernels/linear/cuda.h"
#include "kernels/linear/cuda_plan.h"

namespace deltacal::kernels::cuda::linear {

constexpr int product_warps = 8, input_warps = 2, n_threads = 32 * (product_warps + input_warps);
constexpr int m_tiles = 2, warp_rows = 16 * m_tiles;  // weight rows of a warp
constexpr int line_columns = 64;                      // columns of a warp in a stage: 128 bytes of a row
constexpr int chunks = line_columns / 32;

// n_tiles: input rows in eights. row_warps: warps side by side over the rows of a tile; the others are side
// by side over its columns, and their sums are added up in shared memory.
template <int n_tiles_, int row_warps_>
struct Stage {
  static constexpr int n_tiles = n_tiles_, row_warps = row_warps_, column_warps = product_warps / row_warps;
  static constexpr int rows = warp_rows * row_warps;              // of a tile of the weight
  static constexpr int columns = line_columns * column_warps;     // of a unit
  static constexpr int fragments = m_tiles * n_tiles;             // sums of a warp, in mma's C fragments
  static constexpr int weight_bytes = product_warps * warp_rows * line_columns * 2;
  // Rows begin half a line apart, so that a quarter of a warp reads eight chunks of different banks.
  static constexpr int input_row = columns * 2 + 64;
  static constexpr int bytes = weight_bytes + 8 * n_tiles * input_row;
  static constexpr int flag_bytes = 16;
  // As many stages as fit: copies under way hide what comes before this kernel.
  static constexpr DELTACAL_HOST_DEVICE int count(int capability) {
    const int n = ((capability >= 90 ? 227 : 163) * 1024 - flag_bytes) / bytes;
    return n < 8 ? n : 8;
  }
  static constexpr int shared_bytes(int capability) { return count(capability) * bytes + flag_bytes; }
};

// Sum of a fragment: weight rows g (0, 1) and g + 8 (2, 3), input rows 2 t (0, 2) and 2 t + 1 (1, 3).
using Fragment = float[4];

// One after the other, the units of a block, as those who copy them see it.
struct UnitCursor {
  int tile, unit, tile_units;
  __device__ UnitCursor(const Plan& plan, int begin)
      : tile(begin / plan.tile_units), unit(begin % plan.tile_units), tile_units(plan.tile_units) {}
  __device__ void next() {
    if (++unit == tile_units) unit = 0, ++tile;
  }
};

// First row of weight of row `row` of a fragment of 16, tile `m_tile` of 16 rows of all. With a gate a tile
// is eight rows of the gate and the same eight of the other half, which so meet in one thread.
__device__ __forceinline__ int weight_row(const Params& p, int m_tile, int g, bool upper) {
  return p.gated ? (upper ? p.n : 0) + min(8 * m_tile + g, p.n - 1)
                 : min(16 * m_tile + 8 * int(upper) + g, p.n - 1);
}

// A lane's share of the weight.
template <class S>
class WeightCopies {
 public:
  __device__ WeightCopies(const Params& p, const Plan& plan, int begin)
      : p_(p), at_(plan, begin), lane_(int(threadIdx.x) % 32), warp_(int(threadIdx.x) / 32) {
    find_rows();
  }
  // The next unit, into the stage at `stage`.
  __device__ void issue(uint32_t stage) {
    const int column = at_.unit * S::columns + (warp_ / S::row_warps) * line_columns + 8 * (lane_ % 4);
    const uint32_t to = stage + (warp_ * m_tiles * 2 * chunks * 32 + lane_) * 16;
#pragma unroll
    for (int i = 0; i < m_tiles * 2; ++i) {
#pragma unroll
      for (int q = 0; q < chunks; ++q) {
        const bool there = column + 32 * q < p_.k;
        copy_chunk_once(to + (i * chunks + q) * 512, row_[i] + (there ? column + 32 * q : 0) * 2, there);
      }
    }
    const int tile = at_.tile;
    at_.next();
    if (at_.tile != tile) find_rows();
  }

 private:
  __device__ void find_rows() {
    const int m_tile = at_.tile * (S::rows / 16) + (warp_ % S::row_warps) * m_tiles;
#pragma unroll
    for (int i = 0; i < m_tiles * 2; ++i)
      row_[i] = static_cast<const char*>(p_.weight) +
                size_t(weight_row(p_, m_tile + i / 2, lane_ / 4, i % 2 != 0)) * size_t(p_.k) * 2;
  }
  const Params& p_;
  UnitCursor at_;
  int lane_, warp_;
  const char* row_[m_tiles * 2];
};

// The inputs' columns of a unit, by the threads of the warps that multiply nothing.
template <class S>
class InputCopies {
 public:
  __device__ InputCopies(const Params& p, const Plan& plan, int begin) : p_(p), at_(plan, begin) {}
  __device__ void issue(uint32_t stage) {
    constexpr int row_chunks = S::columns / 8;
    for (int i = int(threadIdx.x) - product_warps * 32; i < p_.n_rows * row_chunks; i += input_warps * 32) {
      const int row = i / row_chunks, chunk = i % row_chunks, column = at_.unit * S::columns + 8 * chunk;
      const bool there = column < p_.k;
      copy_chunk(stage + S::weight_bytes + row * S::input_row + chunk * 16,
                 static_cast<const char*>(p_.x) + (size_t(row) * size_t(p_.k) + size_t(there ? column : 0)) * 2,
                 there);
    }
    at_.next();
  }

 private:
  const Params& p_;
  UnitCursor at_;
};

// Adds the products of the stage at `stage` that are this warp's. Columns of sums of input rows that are not
// there hold anything.
template <class T, class S>
__device__ __forceinline__ void multiply(const char* stage, Fragment (&sum)[S::fragments]) {
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
  const uint4* weight = reinterpret_cast<const uint4*>(stage) + warp * m_tiles * 2 * chunks * 32 + lane;
  const char* input = stage + S::weight_bytes + (lane / 4) * S::input_row +
                      (warp / S::row_warps) * line_columns * 2 + (lane % 4) * 16;
#pragma unroll
  for (int q = 0; q < chunks; ++q) {
    uint4 w[m_tiles * 2];
#pragma unroll
    for (int i = 0; i < m_tiles * 2; ++i) w[i] = weight[(i * chunks + q) * 32];
#pragma unroll
    for (int n = 0; n < S::n_tiles; ++n) {
      const uint4 x = *reinterpret_cast<const uint4*>(input + n * 8 * S::input_row + q * 64);
#pragma unroll
      for (int m = 0; m < m_tiles; ++m) {
        const uint4 low = w[2 * m], high = w[2 * m + 1];
        const uint32_t first[4] = {low.x, high.x, low.y, high.y}, second[4] = {low.z, high.z, low.w, high.w};
        mma<T>(sum[n * m_tiles + m], first, x.x, x.y);
        mma<T>(sum[n * m_tiles + m], second, x.z, x.w);
      }
    }
  }
}

}  // namespace deltacal::kernels::cuda::linear
