// Linear layers of many rows of x on sm_90: out^T = weight x^T by wgmma, with rows of
// the weight as its 64 rows and rows of x as its columns.
//
// A ring of stages in shared memory, of 64 columns of a tile of the weight and of all rows of x; each comes
// by two box copies, that thread 0 asks for as stages become free. Warpgroups lie side by side over a tile's
// rows. The blocks of a cluster (cuda_box_plan.h) add up their sums through each other's shared memory: no
// part of an output passes through device memory, and none waits for an atomic.
#pragma once
#include "kernels/cuda/cluster.cuh"
#include "kernels/cuda/wgmma.cuh"
#include "kernels/linear/cuda_box_plan.h"
#include "kernels/linear/cuda_sums.cuh"

namespace deltacal::kernels::cuda::linear {

// The ring in a block's shared memory, for `x_rows` rows of x, of which those past n_rows are zero; then its
// barriers. The last warpgroup may read up to 48 rows past a tile's last, into what follows: its sums of them
// are not used.
struct BoxRing {
  static constexpr int row_bytes = box_columns * 2, past_end = 48 * row_bytes;
  static constexpr int max_stages = 16, barrier_bytes = 2 * 8 * max_stages;

  int weight_bytes, bytes, n_stages;  // the first two of a stage

  DELTACAL_HOST_DEVICE constexpr BoxRing(int tile_rows, int x_rows)
      : weight_bytes(tile_rows * row_bytes),
        bytes(weight_bytes + x_rows * row_bytes),
        n_stages((227 * 1024 - past_end - barrier_bytes) / bytes) {
    if (n_stages > max_stages) n_stages = max_stages;
  }
  constexpr int shared_bytes() const { return n_stages * bytes + past_end + barrier_bytes; }
};

// With a gate, 16 rows of a box are eight of the gate and the same eight of the other half, which so meet in
// one thread.
inline TensorMap weight_map(const Params& p, int tile_rows) {
  const size_t row = size_t(p.k) * 2;
  BoxedMatrix m;
  m.data = p.weight, m.columns = p.k, m.rows = 8, m.parts = p.gated ? 2 : 1, m.groups = p.n / 8;
  m.row_stride = row, m.part_stride = size_t(p.n) * row, m.group_stride = 8 * row;
  m.box_groups = tile_rows / (8 * m.parts);
  return make_tensor_map(m);
}
inline TensorMap x_map(const Params& p, int x_rows) {
  const size_t row = size_t(p.k) * 2;
  BoxedMatrix m;
  m.data = p.x, m.columns = p.k, m.groups = p.n_rows;
  m.row_stride = m.part_stride = m.group_stride = row;
  m.box_groups = x_rows;
  return make_tensor_map(m);
}

#if __CUDA_ARCH__ >= 900

// Stage and parity of the unit that a ring is at.
struct RingPlace {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void next(int n_stages) {
    if (++stage == n_stages) stage = 0, parity ^= 1;
  }
};

// A block's way through its units, and the ring on the way.
class BoxPipeline {
 public:
  // By all threads.
  __device__ BoxPipeline(const Params& p, const BoxPlan& plan, const BoxRing& ring, const TensorMap& weight,
                         const TensorMap& x, int rank, char* shared)
      : plan_(plan),
        ring_(ring),
        weight_(weight),
        x_(x),
        group_rows_(p.gated ? 16 : 8),
        first_(plan.begin(rank)),
        end_(plan.begin(rank + 1)),
        tile_(int(blockIdx.x) / plan.cluster),
        unit_(first_),
        stages_(shared_address(shared)),
        there_(stages_ + ring.n_stages * ring.bytes + BoxRing::past_end),
        free_(there_ + 8 * BoxRing::max_stages) {
    if (threadIdx.x == 0) {
      for (int s = 0; s < ring.n_stages; ++s)
        init_barrier(there_ + 8 * s, 1), init_barrier(free_ + 8 * s, int(blockDim.x) / 32);
      init_barriers_done();
    }
    __syncthreads();
  }

  // By thread 0: weights of the first stages, which wait for no other kernel, then their inputs.
  __device__ void start_weights() {
    for (n_first_ = 0; n_first_ < ring_.n_stages && more(); ++n_first_) copy_weights(n_first_);
  }
  __device__ void start_inputs() const {
    for (int s = 0, unit = first_; s < n_first_; ++s) {
      copy_inputs(s, unit);
      if (++unit == end_) unit = first_;
    }
  }

  // Every lane by itself, then together: products are a whole warpgroup's.
  __device__ void wait() const {
    wait_barrier(there_ + 8 * at_.stage, at_.parity);
    __syncwarp();
  }
  // Operands of the stage that the block is at.
  __device__ uint64_t weights() const {
    return matrix_descriptor(stages_ + at_.stage * ring_.bytes +
                             int(threadIdx.x) / 128 * 64 * BoxRing::row_bytes);
  }
  __device__ uint64_t inputs() const {
    return matrix_descriptor(stages_ + at_.stage * ring_.bytes + ring_.weight_bytes);
  }
  __device__ void next() { at_.next(ring_.n_stages); }
  // The warp's products of the oldest stage in use are done: when all warps' are, others come in its place.
  __device__ void release() {
    if (threadIdx.x % 32 == 0) arrive(free_ + 8 * oldest_.stage);
    if (threadIdx.x == 0 && more()) {
      wait_barrier(free_ + 8 * oldest_.stage, oldest_.parity);
      const int unit = unit_;
      copy_weights(oldest_.stage);
      copy_inputs(oldest_.stage, unit);
    }
    oldest_.next(ring_.n_stages);
  }

 private:
  __device__ bool more() const { return tile_ < plan_.n_tiles && first_ < end_; }
  // Of the next unit; the barrier waits for its inputs too.
  __device__ void copy_weights(int stage) {
    const uint32_t barrier = there_ + 8 * stage;
    arrive_expecting(barrier, ring_.bytes);
    copy_box_once(stages_ + stage * ring_.bytes, weight_, unit_ * box_columns,
                  tile_ * (plan_.tile_rows / group_rows_), barrier);
    if (++unit_ == end_) unit_ = first_, tile_ += plan_.n_clusters;
  }
  __device__ void copy_inputs(int stage, int unit) const {
    copy_box(stages_ + stage * ring_.bytes + ring_.weight_bytes, x_, unit * box_columns, 0,
             there_ + 8 * stage);
  }

  const BoxPlan& plan_;
  const BoxRing& ring_;
  const TensorMap &weight_, &x_;
  int group_rows_, first_, end_, tile_, unit_;  // tile and unit of the copy that comes next
  int n_first_ = 0;
  uint32_t stages_, there_, free_;
  RingPlace at_, oldest_;
};

// Adds the products of the stage that the block is at. `first`: of a tile.
template <class T, int n>
__device__ __forceinline__ void multiply_stage(const BoxPipeline& pipeline, bool first, Fragment (&sum)[n]) {
  const uint64_t weights = pipeline.weights(), inputs = pipeline.inputs();
  keep_sums(sum);
  begin_products();
#pragma unroll
  for (int k = 0; k < box_columns; k += 16)
    multiply_async<T>(sum, from_column(weights, k), from_column(inputs, k), k > 0 || !first);
  commit_products();
}

// Adds up the sums of the blocks of a cluster, always in the order of their ranks. Fragments go round: block
// `rank` ends up with those f where f % cluster = rank. `shared`: a ring that nothing is copied to any more.
template <int n>
__device__ __forceinline__ void add_up_cluster(int cluster, int rank, int n_fragments, char* shared,
                                               Fragment (&sum)[n]) {
  float4* own = reinterpret_cast<float4*>(shared) + threadIdx.x;  // [n, threads]
  const uint32_t place = shared_address(own);
  __syncthreads();
#pragma unroll
  for (int f = 0; f < n; ++f)
    if (f < n_fragments) own[f * blockDim.x] = as_quad(sum[f]);
  arrive_in_cluster();
  wait_for_cluster();
#pragma unroll
  for (int f = 0; f < n; ++f) {
    if (f >= n_fragments || f % cluster != rank) continue;
    float4 x[BoxPlan::max_cluster];
#pragma unroll
    for (int r = 0; r < BoxPlan::max_cluster; ++r)
      if (r < cluster) x[r] = load_from_block(place + f * blockDim.x * 16, r);
    sum[f][0] = sum[f][1] = sum[f][2] = sum[f][3] = 0;
#pragma unroll
    for (int r = 0; r < BoxPlan::max_cluster; ++r)
      if (r < cluster) add(sum[f], x[r]);
  }
  arrive_in_cluster();
}

// The warp's sums of a tile, of those fragments that the block has, into out.
template <class T, int n>
__device__ __forceinline__ void write_tile(const Params& p, const BoxPlan& plan, int tile, int rank,
                                           const Fragment (&sum)[n]) {
  const int warp = int(threadIdx.x) / 32, m_tile = tile * (plan.tile_rows / 16) + warp;
  if (16 * warp >= plan.tile_rows) return;
#pragma unroll
  for (int f = 0; f < n; ++f) {
    if (8 * f >= p.n_rows || f % plan.cluster != rank) continue;
    const Fragment& s = sum[f];
    if (p.gated) {
      write_features<T>(p, f, 8 * m_tile, swiglu::gated(s[0], s[2]), swiglu::gated(s[1], s[3]));
    } else {
      write_features<T>(p, f, 16 * m_tile, s[0], s[1]);
      write_features<T>(p, f, 16 * m_tile + 8, s[2], s[3]);
    }
  }
}

#endif

template <class T, int x_rows>
__global__ void __launch_bounds__(BoxPlan::max_tile_rows * 2, 1)
    multiply_boxes(const __grid_constant__ Params p, const __grid_constant__ BoxPlan plan,
                   const __grid_constant__ TensorMap weight, const __grid_constant__ TensorMap x) {
#if __CUDA_ARCH__ >= 900
  DELTACAL_DYNAMIC_SHARED(char, shared);
  const BoxRing ring(plan.tile_rows, x_rows);
  const int rank = int(blockIdx.x) % plan.cluster, n_units = plan.begin(rank + 1) - plan.begin(rank);
  BoxPipeline pipeline(p, plan, ring, weight, x, rank, shared);
  if (threadIdx.x == 0) pipeline.start_weights();
  let_next_start();
  wait_for_previous();
  if (threadIdx.x == 0) pipeline.start_inputs();

#pragma unroll 1
  for (int tile = int(blockIdx.x) / plan.cluster; tile < plan.n_tiles; tile += plan.n_clusters) {
    Fragment sum[x_rows / 8] = {};
#pragma unroll 1
    for (int i = 0; i < n_units; ++i) {
      pipeline.wait();
      multiply_stage<T>(pipeline, i == 0, sum);
      pipeline.next();
      if (i > 0) {
        wait_products<1>();
        pipeline.release();
      }
    }
    wait_products<0>();
    keep_sums(sum);
    if (n_units > 0) pipeline.release();
    if (plan.cluster > 1) add_up_cluster(plan.cluster, rank, divide_up(p.n_rows, 8), shared, sum);
    write_tile<T>(p, plan, tile, rank, sum);
  }
  if (plan.cluster > 1) wait_for_cluster();
#endif
}

}  // namespace deltacal::kernels::cuda::linear
