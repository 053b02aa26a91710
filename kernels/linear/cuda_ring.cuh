// Weights and inputs, ahead of need, and their product.
//
// Each warp has a ring of weights of its own, filled by cp.async: no warp waits for another but at a tile's
// end. (Bulk copies of a row each, which the lanes of a warp issue one after the other, gave a multiprocessor
// 40 GB/s at most.) Shared memory is for weights: of the inputs a lane loads what it multiplies into
// registers, a unit ahead; warps with other rows of the weight load the same, from the first-level cache.
#pragma once
#include "kernels/linear/cuda_weights.cuh"

namespace deltacal::kernels::cuda::linear {

template <class S>
class WeightRing {
#if __CUDA_ARCH__ >= 900
  static constexpr int own = 90;
#else
  static constexpr int own = 80;
#endif

 public:
  // Four are enough for the latency of memory.
  static constexpr DELTACAL_HOST_DEVICE int depth(int capability) {
    const int n = S::room(capability) / S::weight_bytes;
    return n < 4 ? n : 4;
  }
  static constexpr int shared_bytes(int capability) {
    return depth(capability) * S::weight_bytes + n_misc;
  }
  static constexpr int n_stages = depth(own), bytes = n_stages * S::weight_bytes;
  static_assert(depth(80) >= 2);

  __device__ WeightRing(const Params& p, const Plan& plan, int begin, int n_units, char* shared)
      : p_(p), plan_(plan), to_come_(n_units), shared_(shared), rows_(p, plan, begin) {}

  // Before the kernel before has ended, each stage when the last one is there: that keeps memory busy, and
  // what that kernel still reads has not all of the ring to wait for.
  __device__ void start() {
#pragma unroll 1
    for (int s = 0; s < n_stages; ++s) {
      copy(s);
      if (own >= 90 && s < n_stages - 1) wait_copies<0>();
    }
  }
  // The warp's weights of the unit are there.
  __device__ void wait() {
    wait_copies<n_stages - 1>();
    __syncwarp();
  }
  // The stage: no copy writes to any of it while a warp is at its unit.
  __device__ char* stage() const {
    return shared_ + stage_ * S::weight_bytes;
  }
  // The warp has read its weights, by every lane: others come in their place. It is at the next unit.
  __device__ void next() {
    __syncwarp();
    copy(stage_);
    if (++stage_ == n_stages) stage_ = 0;
  }

 private:
  // A group a unit, empty past the last.
  __device__ void copy(int stage) {
    if (to_come_ > 0) copy_weights(p_, plan_, rows_, shared_address(shared_) + stage * S::weight_bytes);
    --to_come_;
    commit_copies();
  }

  const Params& p_;
  const Plan& plan_;
  int to_come_, stage_ = 0;
  char* shared_;
  WeightRows<S> rows_;
};

// A unit's inputs: of each chunk of 32 columns those that the lane multiplies.
template <class S>
class Inputs {
 public:
  static constexpr int n_chunks = S::segment / 32;

  __device__ explicit Inputs(const Params& p)
      : first_row_(static_cast<const char*>(p.x)),
        place_((uint32_t(g()) * uint32_t(p.k) + uint32_t(8 * t())) * 2),
        there_(g() < p.n_rows) {}

  // Asks for chunk q of `columns`. A row that is not there stays 0, columns that are not there as they are.
  __device__ __forceinline__ void load(int q, const Columns& columns) {
    load_chunk_if(there_ && 32 * q + 8 * t() < columns.n, x_[q],
                  first_row_ + (place_ + uint32_t(columns.first) * 2 + 64 * q));
  }
  __device__ __forceinline__ void load(const Columns& columns) {
#pragma unroll
    for (int q = 0; q < n_chunks; ++q) load(q, columns);
  }
  __device__ __forceinline__ uint4& chunk(int q) {
    return x_[q];
  }

 private:
  __device__ static int g() {
    return int(threadIdx.x) % 32 / 4;
  }
  __device__ static int t() {
    return int(threadIdx.x) % 4;
  }

  const char* first_row_;
  uint32_t place_;  // bytes: 2^31 at most
  bool there_;
  uint4 x_[n_chunks] = {};
};

// Adds the products of `n_columns` columns, of the warp's weights and of `inputs`, whose chunks it replaces
// by those of `next` as they are used up. `whole`: n_columns is S::segment.
template <class T, class S, bool whole>
__device__ __forceinline__ void multiply(const char* weight, int n_columns, Inputs<S>& inputs,
                                         const Columns& next, Fragment (&sum)[S::fragments]) {
  const int lane = int(threadIdx.x) % 32, t = lane % 4;
  const uint4 zero = make_uint4(0, 0, 0, 0);
  weight += weight_place<S>(lane / 4) + 16 * t;
#pragma unroll
  for (int q = 0; q < Inputs<S>::n_chunks; ++q) {
    if (whole || 32 * q < n_columns) {
      const bool there = whole || 32 * q + 8 * t < n_columns;
      uint4 w[2 * S::m_tiles];
#pragma unroll
      for (int i = 0; i < 2 * S::m_tiles; ++i)
        w[i] = there ? *reinterpret_cast<const uint4*>(weight + 4 * i * S::weight_row + 64 * q) : zero;
      if (!there) inputs.chunk(q) = zero;
      add_products<T, S>(w, inputs.chunk(q), sum);
    }
    inputs.load(q, next);
  }
}

}  // namespace deltacal::kernels::cuda::linear
