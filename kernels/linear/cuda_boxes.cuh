// Linear layers of many rows of x, or of large weights, on sm_90: out^T = weight x^T by wgmma, with rows of
// the weight as its 64 rows and rows of x as its columns.
//
// A ring of stages in shared memory, of 64 columns of a tile of the weight and of all rows of x; each comes
// by two box copies, that thread 0 asks for as stages become free. Warpgroups lie side by side over a tile's
// rows. The blocks of a cluster (cuda_box_plan.h) send their sums into each other's shared memory: no part of
// an output passes through device memory, and none waits for an atomic.
//
// What comes after the last product is waited for in full, by each instruction and each latency of it, where
// a short call has little else: no block asks another for its sums, nothing is a fence of the device, and
// what adds up and writes is short (H200, 64 rows of x: 2 to 4 us a call less than without this care).
#pragma once
#include "kernels/cuda/cluster.cuh"
#include "kernels/cuda/wgmma.cuh"
#include "kernels/linear/cuda_box_plan.h"
#include "kernels/linear/cuda_sums.cuh"

namespace deltacal::kernels::cuda::linear {

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
  // By all threads; then init() by all, a barrier of the block's threads, and the first copies.
  __device__ BoxPipeline(const Params& p, const BoxPlan& plan, const BoxRing& ring, const TensorMap& weight,
                         const TensorMap& x, int rank, char* shared)
      : plan_(plan),
        ring_(ring),
        weight_(weight),
        x_(x),
        tile_groups_(plan.tile_rows >> (p.gated ? 4 : 3)),
        first_(plan.begin(rank)),
        end_(plan.begin(rank + 1)),
        tile_(plan.first_tile(int(blockIdx.x))),
        unit_(first_),
        stages_(shared_address(shared)),
        there_(stages_ + ring.n_stages * ring.bytes + ring.sums_bytes),
        free_(there_ + 8 * BoxRing::max_stages) {}
  __device__ void init() const {
    const int s = int(threadIdx.x);
    if (s >= ring_.n_stages) return;
    init_barrier(there_ + 8 * s, 1), init_barrier(free_ + 8 * s, int(blockDim.x) / 32);
    init_barriers_done();
  }

  // By thread 0: weights of the first stages, which wait for no other kernel, then their inputs.
  __device__ void start_weights() {
#pragma unroll 1
    for (n_first_ = 0; n_first_ < ring_.n_stages && more(); ++n_first_) copy_weights(n_first_);
  }
  __device__ void start_inputs() const {
#pragma unroll 1
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
  __device__ bool more() const {
    return tile_ < plan_.n_tiles;
  }
  // Of the next unit; the barrier waits for its inputs too.
  __device__ void copy_weights(int stage) {
    const uint32_t barrier = there_ + 8 * stage;
    arrive_expecting(barrier, ring_.bytes);
    copy_box_once(stages_ + stage * ring_.bytes, weight_, unit_ * box_columns, tile_ * tile_groups_, barrier);
    if (++unit_ == end_) unit_ = first_, tile_ += plan_.n_clusters;
  }
  __device__ void copy_inputs(int stage, int unit) const {
    copy_box(stages_ + stage * ring_.bytes + ring_.weight_bytes, x_, unit * box_columns, 0,
             there_ + 8 * stage);
  }

  const BoxPlan& plan_;
  const BoxRing& ring_;
  const TensorMap &weight_, &x_;
  int tile_groups_;                // of the weight's matrix in a tile
  int first_, end_, tile_, unit_;  // tile and unit of the copy that comes next
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

// The sums of a tile that the blocks of a cluster share. Fragments go round: block `rank` has those f where
// f % cluster = rank, and all send it their sums of them. Of one tile a call: the barrier has one phase.
class ClusterSums {
 public:
  // By all threads; init() by thread 0, before it arrives in the cluster.
  __device__ ClusterSums(const Params& p, const BoxPlan& plan, const BoxRing& ring, int rank, char* shared)
      : plan_(plan),
        ring_(ring),
        rank_(rank),
        n_fragments_(divide_up(p.n_rows, 8)),
        quads_(reinterpret_cast<float4*>(shared + ring.n_stages * ring.bytes) + threadIdx.x),
        barrier_(shared_address(shared) + ring.shared_bytes() - 8) {}
  __device__ void init() const {
    init_barrier(barrier_, 1);
    const int owned = (n_fragments_ - rank_ + plan_.cluster() - 1) >> plan_.log2_cluster;
    arrive_expecting(barrier_, owned * plan_.cluster() * BoxRing::fragment_bytes(plan_));
    init_barriers_done();
  }

  // Sends, and waits for what is sent. By the threads of warps that have rows of the tile.
  template <int n>
  __device__ __forceinline__ void exchange(const Fragment (&sum)[n]) const {
    const int log2_cluster = plan_.log2_cluster, last = plan_.cluster() - 1;
    const uint32_t to = shared_address(place(rank_, 0)), step = BoxRing::fragment_bytes(plan_);
#pragma unroll
    for (int f = 0; f < n; ++f)
      if (f < n_fragments_)
        send_to_block(f & last, to + (f >> log2_cluster) * step, as_quad(sum[f]), barrier_);
    wait_barrier_in_cluster(barrier_, 0);
  }
  // Of fragment `rank` + `i` cluster: always in the order of the blocks.
  __device__ __forceinline__ void add_up(int i, Fragment& sum) const {
    const float4* from = place(0, i);
    const int cluster = plan_.cluster(), step = ring_.owned * (BoxRing::fragment_bytes(plan_) / 16);
    sum[0] = sum[1] = sum[2] = sum[3] = 0;
#pragma unroll 1
    for (int first = 0; first < cluster; first += 4) {
#pragma unroll
      for (int r = 0; r < 4; ++r)
        if (first + r < cluster) add(sum, from[(first + r) * step]);
    }
  }

 private:
  // Where a block has what block `from` sent it of its i-th fragment.
  __device__ const float4* place(int from, int i) const {
    return quads_ + (from * ring_.owned + i) * (BoxRing::fragment_bytes(plan_) / 16);
  }

  const BoxPlan& plan_;
  const BoxRing& ring_;
  int rank_, n_fragments_;
  const float4* quads_;
  uint32_t barrier_;
};

// What the warp has of a tile into out: its own sums, whose gates are joined, or those that it adds up.
template <class Out, int n>
__device__ __forceinline__ void write_sums(const Params& p, const BoxPlan& plan, int m_tile, int rank,
                                           const ClusterSums& of_cluster, const Fragment (&sum)[n]) {
  const OutputLane<Out> lane(p, m_tile);
  if (plan.cluster() == 1) {
#pragma unroll
    for (int f = 0; f < n; ++f) lane.write(f, sum[f]);
    return;
  }
#pragma unroll 1
  for (int i = 0, f = rank; 8 * f < p.n_rows; ++i, f += plan.cluster()) {
    Fragment total;
    of_cluster.add_up(i, total);
    if (p.gated) join_gate(total);
    lane.write(f, total);
  }
}
// The warp's sums of a tile, with those of the cluster's other blocks, into out.
template <class T, int n>
__device__ __forceinline__ void write_tile(const Params& p, const BoxPlan& plan, int tile, int rank,
                                           const ClusterSums& of_cluster, Fragment (&sum)[n]) {
  const int warp = int(threadIdx.x) / 32, m_tile = tile * (plan.tile_rows / 16) + warp;
  if (16 * warp >= plan.tile_rows) return;
  if (plan.cluster() > 1) {
    wait_for_cluster();  // all its blocks have their barriers
    of_cluster.exchange(sum);
  } else if (p.gated) {
#pragma unroll
    for (int f = 0; f < n; ++f) join_gate(sum[f]);
  }
  if (p.out_f32)
    write_sums<float>(p, plan, m_tile, rank, of_cluster, sum);
  else
    write_sums<T>(p, plan, m_tile, rank, of_cluster, sum);
}

#endif

template <class T, int x_rows>
__global__ void __launch_bounds__(BoxPlan::max_tile_rows * 2, 1)
    multiply_boxes(const __grid_constant__ Params p, const __grid_constant__ BoxPlan plan,
                   const __grid_constant__ BoxRing ring, const __grid_constant__ TensorMap weight,
                   const __grid_constant__ TensorMap x) {
#if __CUDA_ARCH__ >= 900
  DELTACAL_DYNAMIC_SHARED(char, shared);
  const int rank = plan.rank(int(blockIdx.x)), n_units = plan.begin(rank + 1) - plan.begin(rank);
  BoxPipeline pipeline(p, plan, ring, weight, x, rank, shared);
  const ClusterSums sums(p, plan, ring, rank, shared);
  pipeline.init();
  if (plan.cluster() > 1) {
    if (threadIdx.x == 0) sums.init();
    __syncwarp();
    arrive_in_cluster();
  }
  __syncthreads();
  if (threadIdx.x == 0) pipeline.start_weights();
  let_next_start();
  wait_for_previous();
  if (threadIdx.x == 0) pipeline.start_inputs();

  bool in_use = false;  // a stage before the one that the block is at
#pragma unroll 1
  for (int tile = plan.first_tile(int(blockIdx.x)); tile < plan.n_tiles; tile += plan.n_clusters) {
    Fragment sum[x_rows / 8] = {};
#pragma unroll 1
    for (int i = 0; i < n_units; ++i) {
      pipeline.wait();
      multiply_stage<T>(pipeline, i == 0, sum);
      pipeline.next();
      if (in_use) {
        wait_products<1>();
        pipeline.release();
      }
      in_use = true;
    }
    wait_products<0>();
    keep_sums(sum);
    write_tile<T>(p, plan, tile, rank, sums, sum);
  }
#endif
}

}  // namespace deltacal::kernels::cuda::linear
