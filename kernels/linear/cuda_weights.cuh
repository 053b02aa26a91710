// Which rows of the weight a warp reads, and copies of them by cp.async.
#pragma once
#include "kernels/linear/cuda_stage.cuh"

namespace deltacal::kernels::cuda::linear {

// The rows of weight that a warp copies, from unit to unit: lane i knows where rows i, i + 32, .. begin.
template <class S>
class WeightRows {
 public:
  static constexpr int of_lane = divide_up(S::warp_rows, 32);

  __device__ WeightRows(const Params& p, const Plan& plan, int begin)
      : p_(p), tile_units_(plan.tile_units), tile_(begin / plan.tile_units), unit_(begin % plan.tile_units) {
    find();
  }
  __device__ int unit() const { return unit_; }
  __device__ const char* row(int i) const { return row_[i]; }
  __device__ void next() {
    if (++unit_ < tile_units_) return;
    unit_ = 0, ++tile_;
    find();
  }

 private:
  __device__ void find() {
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
#pragma unroll
    for (int i = 0; i < of_lane; ++i) {
      const int row = weight_row<S>(p_, tile_, warp % S::row_warps, min(lane + 32 * i, S::warp_rows - 1));
      row_[i] = static_cast<const char*>(p_.weight) + size_t(row) * size_t(p_.k) * 2;
    }
  }
  const Params& p_;
  int tile_units_, tile_, unit_;
  const char* row_[of_lane];
};

// The warp's part of the unit that `rows` is at, by its lanes: eight a row and line of 128 bytes, so four
// rows an instruction. `stage`: address of the stage. Then `rows` is at the next unit.
template <class S>
__device__ __forceinline__ void copy_weights(const Params& p, const Plan& plan, WeightRows<S>& rows,
                                             uint32_t stage) {
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
  const Columns c(p, plan, rows.unit(), warp / S::row_warps);
  const uint32_t to = stage + warp * S::warp_bytes;
#pragma unroll
  for (int i = 0; i < S::warp_rows; i += 4) {
    const int row = i + lane / 8;
    const auto own = reinterpret_cast<unsigned long long>(rows.row(i / 32));
    const char* from =
        reinterpret_cast<const char*>(__shfl_sync(all_lanes, own, row % 32)) + size_t(c.first) * 2;
#pragma unroll
    for (int line = 0; line < S::segment / 64; ++line) {
      const int chunk = 8 * line + lane % 8;
      if (chunk < c.n / 8) copy_chunk_once(to + weight_place<S>(row) + 16 * chunk, from + 16 * chunk);
    }
  }
  rows.next();
}

}  // namespace deltacal::kernels::cuda::linear
