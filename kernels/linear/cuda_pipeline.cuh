// How weights and inputs come into shared memory, ahead of need, for up to eight rows; and their product.
//
// On sm_90 each warp has a ring of weights of its own, one bulk copy a row and stage; the inputs' ring is the
// block's, filled by the warps by turns. Barriers are mbarriers: warps need not keep step. On sm_80 all
// threads copy, and meet at every stage.
#pragma once
#include "kernels/linear/cuda_weights.cuh"

namespace deltacal::kernels::cuda::linear {

// Stage and parity of the unit that a ring is at.
struct RingPlace {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void next(int n_stages) {
    if (++stage == n_stages) stage = 0, parity ^= 1;
  }
};

// Stages of the two rings: as much as fits, for copies under way hide what comes before this kernel. On sm_90
// copies are served in order and inputs ask later than weights of the same unit: their ring is one stage
// longer, or products would wait for them behind all those weights.
template <class S>
struct Depth {
  static constexpr DELTACAL_HOST_DEVICE int weights(int capability) {
    int n = 192 * 1024 / (S::weight_row * S::warp_rows * n_warps);
    while (S::room(capability) - n * S::weight_bytes < (capability >= 90 ? n + 1 : 2) * S::input_bytes) --n;
    return n;
  }
  static constexpr DELTACAL_HOST_DEVICE int inputs(int capability) {
    const int n = (S::room(capability) - weights(capability) * S::weight_bytes) / S::input_bytes;
    return n < 8 ? n : 8;
  }
  static constexpr int shared_bytes(int capability) {
    return weights(capability) * S::weight_bytes + inputs(capability) * S::input_bytes + n_misc;
  }
  static_assert(weights(80) >= 2);
};

#if __CUDA_ARCH__ >= 900

template <class S>
class Pipeline {
  static constexpr int capability = 90;
  static constexpr int n_weights = Depth<S>::weights(capability), n_inputs = Depth<S>::inputs(capability);
  static_assert((n_warps * n_weights + 2 * n_inputs) * 8 + 16 <= n_misc);

 public:
  static constexpr int bytes = n_weights * S::weight_bytes + n_inputs * S::input_bytes;

  // By all threads.
  __device__ Pipeline(const Params& p, const Plan& plan, int begin, int n_units, char* shared)
      : p_(p), plan_(plan), begin_(begin), n_units_(n_units), shared_(shared), rows_(p, plan, begin) {
    const uint32_t barriers = shared_address(shared) + bytes + 16;
    weight_there_ = barriers + warp() * n_weights * 8;
    input_there_ = barriers + n_warps * n_weights * 8;
    input_free_ = input_there_ + n_inputs * 8;
    if (threadIdx.x == 0) {
      for (int i = 0; i < n_inputs; ++i)
        init_barrier(input_there_ + 8 * i, 1), init_barrier(input_free_ + 8 * i, n_warps);
      for (int i = 0; i < n_warps * n_weights; ++i) init_barrier(barriers + 8 * i, 1);
      init_barriers_done();
    }
    __syncthreads();
  }

  __device__ void start_weights() {
#pragma unroll 1
    for (int s = 0; s < min(n_weights, n_units_); ++s) copy_weights(s);
  }
  __device__ void start_inputs() {
#pragma unroll 1
    for (int s = 0; s < min(n_inputs, n_units_); ++s)
      if (s % n_warps == warp()) copy_inputs(s, s);
  }
  __device__ void wait() {
    wait_barrier(weight_there_ + 8 * weight_at_.stage, weight_at_.parity);
    wait_barrier(input_there_ + 8 * input_at_.stage, input_at_.parity);
  }
  __device__ char* weights() const {
    return shared_ + weight_at_.stage * S::weight_bytes;
  }
  __device__ const char* inputs() const {
    return shared_ + n_weights * S::weight_bytes + input_at_.stage * S::input_bytes;
  }
  // The warp has read its weights, by every lane: others may come in their place.
  __device__ void weights_done() {
    __syncwarp();
    if (done_ + n_weights < n_units_) copy_weights(weight_at_.stage);
  }
  // The same of the inputs, after which it is at the next unit. One warp waits for the others.
  __device__ void inputs_done() {
    __syncwarp();
    if (lane() == 0) arrive(input_free_ + 8 * input_at_.stage);
    if (done_ % n_warps == warp() && done_ + n_inputs < n_units_) {
      wait_barrier(input_free_ + 8 * input_at_.stage, input_at_.parity);
      copy_inputs(input_at_.stage, done_ + n_inputs);
    }
    input_at_.next(n_inputs), weight_at_.next(n_weights);
    ++done_;
  }

 private:
  __device__ static int warp() {
    return int(threadIdx.x) / 32;
  }
  __device__ static int lane() {
    return int(threadIdx.x) % 32;
  }
  __device__ void copy_weights(int stage) {
    const Columns c(p_, plan_, rows_.unit(), warp() / S::row_warps);
    const uint32_t barrier = weight_there_ + 8 * stage;
    if (lane() == 0) arrive_expecting(barrier, S::warp_rows * 2 * c.n);
    __syncwarp();
    if (c.n > 0 && lane() < S::warp_rows)
      copy_bulk_once(shared_address(shared_) + stage * S::weight_bytes + warp() * S::warp_bytes +
                         weight_place<S>(lane()),
                     rows_.row() + size_t(c.first) * 2, 2 * c.n, barrier);
    rows_.next();
  }
  __device__ void copy_inputs(int stage, int number) {
    const int unit_columns = plan_.segment * plan_.column_warps,
              first = (begin_ + number) % plan_.tile_units * unit_columns,
              n = min(unit_columns, p_.k - first);
    const uint32_t barrier = input_there_ + 8 * stage,
                   to = shared_address(shared_) + n_weights * S::weight_bytes + stage * S::input_bytes;
    if (lane() == 0) arrive_expecting(barrier, p_.n_rows * 2 * n);
    __syncwarp();
    for (int r = lane(); r < p_.n_rows; r += 32)
      copy_bulk(to + input_place<S>(r),
                static_cast<const char*>(p_.x) + (size_t(r) * size_t(p_.k) + size_t(first)) * 2, 2 * n,
                barrier);
  }

  const Params& p_;
  const Plan& plan_;
  int begin_, n_units_, done_ = 0;
  char* shared_;
  WeightRows<S> rows_;
  uint32_t weight_there_, input_there_, input_free_;
  RingPlace weight_at_, input_at_;
};

#else

template <class S>
class Pipeline {
  static constexpr int n_weights = Depth<S>::weights(80), n_inputs = Depth<S>::inputs(80);
  static constexpr int n_stages = n_weights < n_inputs ? n_weights : n_inputs;

 public:
  static constexpr int bytes = n_weights * S::weight_bytes + n_inputs * S::input_bytes;

  __device__ Pipeline(const Params& p, const Plan& plan, int begin, int n_units, char* shared)
      : p_(p), plan_(plan), begin_(begin), n_units_(n_units), shared_(shared), rows_(p, plan, begin) {}

  __device__ void start_weights() {}
  __device__ void start_inputs() {
#pragma unroll 1
    for (int s = 0; s < n_stages - 1; ++s) copy(s);
  }
  __device__ void wait() {
    wait_copies<n_stages - 2>();
    __syncthreads();  // the stage is there for all, and nobody reads the one before it any more
    copy(done_ + n_stages - 1);
  }
  __device__ char* weights() const {
    return shared_ + done_ % n_stages * S::weight_bytes;
  }
  __device__ const char* inputs() const {
    return shared_ + n_weights * S::weight_bytes + done_ % n_stages * S::input_bytes;
  }
  __device__ void weights_done() {}
  __device__ void inputs_done() {
    ++done_;
  }

 private:
  __device__ void copy(int number) {
    if (number < n_units_) {
      const int stage = number % n_stages;
      copy_weights(p_, plan_, rows_, shared_address(shared_) + stage * S::weight_bytes);
      copy_inputs(stage, number);
    }
    commit_copies();
  }
  __device__ void copy_inputs(int stage, int number) {
    const int unit_columns = plan_.segment * plan_.column_warps,
              first = (begin_ + number) % plan_.tile_units * unit_columns,
              chunks = min(unit_columns, p_.k - first) / 8;
    const uint32_t to = shared_address(shared_) + n_weights * S::weight_bytes + stage * S::input_bytes;
    for (int i = int(threadIdx.x); i < p_.n_rows * chunks; i += n_threads) {
      const int row = i / chunks, chunk = i % chunks;
      copy_chunk(
          to + input_place<S>(row) + 16 * chunk,
          static_cast<const char*>(p_.x) + (size_t(row) * size_t(p_.k) + size_t(first + 8 * chunk)) * 2);
    }
  }

  const Params& p_;
  const Plan& plan_;
  int begin_, n_units_, done_ = 0;
  char* shared_;
  WeightRows<S> rows_;
};

#endif

// Adds the products of `n_columns` columns, of the warp's weights and of inputs that begin at its columns.
// Sums of input rows that are not there hold anything. `whole`: n_columns is S::segment.
template <class T, class S, bool whole>
__device__ __forceinline__ void multiply(const char* weight, const char* input, int n_columns,
                                         Fragment (&sum)[S::fragments]) {
  const int lane = int(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  weight += weight_place<S>(g) + 16 * t;
  input += input_place<S>(g) + 16 * t;
  const auto chunk = [&](const char* row, int q) {
    if (whole || 32 * q + 8 * t < n_columns) return *reinterpret_cast<const uint4*>(row + 64 * q);
    return make_uint4(0, 0, 0, 0);
  };
#pragma unroll
  for (int q = 0; q < S::segment / 32; ++q) {
    if (!whole && 32 * q >= n_columns) break;
    uint4 w[2 * S::m_tiles];
#pragma unroll
    for (int i = 0; i < 2 * S::m_tiles; ++i) w[i] = chunk(weight + 4 * i * S::weight_row, q);
    add_products<T, S>(w, chunk(input, q), sum);
  }
}

}  // namespace deltacal::kernels::cuda::linear
