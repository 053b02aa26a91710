// From the sums of a block's warps to outputs.
#pragma once
#include "kernels/cuda/arrival.cuh"
#include "kernels/linear/cuda_stage.cuh"
#include "kernels/swiglu/gate.cuh"

namespace deltacal::kernels::cuda::linear {

constexpr int max_blocks = 1024;

// The call's workspace.
struct Workspace {
  int* arrived = nullptr;  // [max_blocks] parts that are there of the tile whose first block it is; 0 between
                           // calls
  float4* parts = nullptr;  // [2 n_blocks, owned, n_threads]
};

// What a thread ends up with: of the warps with the same rows, the one of column place c has the fragments f
// with f % column_warps = c, as number f / column_warps.
template <class S>
using Owned = Fragment[S::owned];

__device__ __forceinline__ int column_place(int row_warps) {
  return int(threadIdx.x) / 32 / row_warps;
}
__device__ __forceinline__ void add(Fragment& to, float4 x) {
  to[0] += x.x, to[1] += x.y, to[2] += x.z, to[3] += x.w;
}
__device__ __forceinline__ float4 as_quad(const Fragment& x) {
  return make_float4(x[0], x[1], x[2], x[3]);
}

// Over the warps with the same rows. `room`: weight_bytes of shared memory. By all threads, which meet at the
// end.
template <class S>
__device__ void add_up_columns(const Fragment (&sum)[S::fragments], Owned<S>& own, char* room) {
  static_assert(n_warps * S::fragments * 512 <= S::weight_bytes);
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32, place = column_place(S::row_warps),
            row_warp = warp % S::row_warps;
  float4* quads = reinterpret_cast<float4*>(room) + lane;  // [n_warps, fragments, 32]
  __syncthreads();
#pragma unroll
  for (int f = 0; f < S::fragments; ++f) quads[(warp * S::fragments + f) * 32] = as_quad(sum[f]);
  __syncthreads();
#pragma unroll
  for (int i = 0; i < S::owned; ++i) {
    const int f = i * S::column_warps + place;
    own[i][0] = own[i][1] = own[i][2] = own[i][3] = 0;
    if (f >= S::fragments) continue;
#pragma unroll
    for (int c = 0; c < S::column_warps; ++c)
      add(own[i], quads[((c * S::row_warps + row_warp) * S::fragments + f) * 32]);
  }
  __syncthreads();
}

// Where part `slot` of the workspace has the thread's fragments: every column_warps * row_warps * 32 quads
// one.
template <class S>
__device__ __forceinline__ float4* part_of(const Workspace& workspace, int slot) {
  return workspace.parts + size_t(slot) * size_t(S::owned * n_threads) + threadIdx.x;
}

// Sum over the parts of a tile, always in the order of the blocks. A thread has many loads under way, or the
// latency of one after the other would be most of a short call.
template <class S>
__device__ void add_up_parts(Owned<S>& own, const Workspace& workspace, const Plan& plan, int first_unit,
                             int first_block, int n_parts) {
  constexpr int batch = 8;
#pragma unroll
  for (int i = 0; i < S::owned; ++i) own[i][0] = own[i][1] = own[i][2] = own[i][3] = 0;
#pragma unroll 1
  for (int base = 0; base < n_parts; base += batch) {
    float4 x[batch][S::owned];
#pragma unroll
    for (int b = 0; b < batch; ++b) {
      const int part = min(base + b, n_parts - 1);
      const float4* from = part_of<S>(workspace, plan.part_slot(first_block + part, first_unit));
#pragma unroll
      for (int i = 0; i < S::owned; ++i) x[b][i] = __ldcg(from + i * n_threads);
    }
#pragma unroll
    for (int b = 0; b < batch; ++b) {
      if (base + b >= n_parts) break;
#pragma unroll
      for (int i = 0; i < S::owned; ++i) add(own[i], x[b][i]);
    }
  }
}

// Of a gate's fragment, rows g of the weight with rows g + 8, the output's numbers in the place of the first.
__device__ __forceinline__ void join_gate(Fragment& s) {
  s[0] = swiglu::gated(s[0], s[2]), s[1] = swiglu::gated(s[1], s[3]);
}

template <class T>
__device__ __forceinline__ void write_pair(T* to, float first, float second) {
  *reinterpret_cast<uint32_t*>(to) = pack<T>(first, second);
}
__device__ __forceinline__ void write_pair(float* to, float first, float second) {
  *reinterpret_cast<float2*>(to) = make_float2(first, second);
}

// Where a lane writes to, of the fragments of the weight's sixteen rows of number `m_tile`: of eight rows of
// out one, and of eight or, without a gate, sixteen features two neighbours each.
template <class Out>
class OutputLane {
 public:
  __device__ OutputLane(const Params& p, int m_tile) {
    const int lane = int(threadIdx.x) % 32, g = lane / 4, first = (p.gated ? 8 : 16) * m_tile;
    odd_ = g % 2 != 0;
    row_ = 2 * (lane % 4) + int(odd_);
    n_rows_ = p.n_rows, n_features_ = p.gated ? min(8, p.n - first) : p.n - first;
    eight_rows_ = 8 * size_t(p.n);
    to_ = static_cast<Out*>(p.out) + size_t(row_) * size_t(p.n) + (first + g - int(odd_));
  }
  // Fragment `f` of the warp's, of rows 8 f .. 8 f + 7; a gate's is joined.
  __device__ __forceinline__ void write(int f, const Fragment& s) const {
    write(f, 0, s[0], s[1]);
    write(f, 8, s[2], s[3]);
  }

 private:
  // Two lanes of neighbouring features exchange numbers, so that each has both of one row: `x` of row 2 t,
  // `y` of row 2 t + 1, feature `from` + g.
  __device__ __forceinline__ void write(int f, int from, float x, float y) const {
    const float other = __shfl_xor_sync(all_lanes, odd_ ? x : y, 4);
    if (8 * f + row_ < n_rows_ && from < n_features_)
      write_pair(to_ + (size_t(f) * eight_rows_ + size_t(from)), odd_ ? other : x, odd_ ? y : other);
  }

  bool odd_;
  int row_, n_rows_, n_features_;
  size_t eight_rows_;
  Out* to_;
};

template <class Out, class S>
__device__ __forceinline__ void write_outputs(const Params& p, int tile, Owned<S>& own) {
  const int row_warp = int(threadIdx.x) / 32 % S::row_warps,
            first = tile * (S::rows / 16) + row_warp * S::m_tiles;
#pragma unroll
  for (int i = 0; i < S::owned; ++i) {
    const int f = i * S::column_warps + column_place(S::row_warps);
    if (f >= S::fragments) continue;
    if (p.gated) join_gate(own[i]);
    OutputLane<Out>(p, first + f).write(0, own[i]);
  }
}

// The block's sums of a tile, complete or a part of it, into out or the workspace. begin, end: the block's
// units. By all threads; `room` as above, `flag` in shared memory too.
template <class T, class S>
__device__ void finish_tile(const Params& p, const Plan& plan, const Workspace& workspace, int begin, int end,
                            int tile, const Fragment (&sum)[S::fragments], char* room, int* flag) {
  const int first_unit = tile * plan.tile_units;
  Owned<S> own;
  if constexpr (S::column_warps > 1) {
    add_up_columns<S>(sum, own, room);
  } else {
#pragma unroll
    for (int i = 0; i < S::owned; ++i)
#pragma unroll
      for (int e = 0; e < 4; ++e) own[i][e] = sum[i][e];
  }
  if (begin > first_unit || end < first_unit + plan.tile_units) {
    const int first = plan.block_of(first_unit), last = plan.block_of(first_unit + plan.tile_units - 1);
    float4* part = part_of<S>(workspace, plan.part_slot(int(blockIdx.x), first_unit));
#pragma unroll
    for (int i = 0; i < S::owned; ++i) part[i * n_threads] = as_quad(own[i]);
    if (!last_to_arrive(workspace.arrived + first, last - first + 1, flag)) return;
    add_up_parts<S>(own, workspace, plan, first_unit, first, last - first + 1);
  }
  if (p.out_f32)
    write_outputs<float, S>(p, tile, own);
  else
    write_outputs<T, S>(p, tile, own);
}

}  // namespace deltacal::kernels::cuda::linear
