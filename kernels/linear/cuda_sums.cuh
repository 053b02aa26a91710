// From the sums of a block's warps to outputs.
#pragma once
#include "kernels/cuda/arrival.cuh"
#include "kernels/linear/cuda_stage.cuh"
#include "kernels/swiglu/gate.cuh"

namespace deltacal::kernels::cuda::linear {

constexpr int max_blocks = 1024;

// The call's workspace.
struct Workspace {
  int* arrived = nullptr;   // [max_blocks] parts that are there of the tile whose first block it is; 0 between
                            // calls
  float4* parts = nullptr;  // [2 n_blocks, fragments, row_warps, 32]
};

// Which thread ends up with what: of the warps with the same rows, the one of column place c has the
// fragments f with f % column_warps = c.
template <class S>
__device__ __forceinline__ bool has_fragment(int f) {
  return f % S::column_warps == int(threadIdx.x) / 32 / S::row_warps;
}

__device__ __forceinline__ void add(Fragment& to, float4 x) {
  to[0] += x.x, to[1] += x.y, to[2] += x.z, to[3] += x.w;
}

// Over the warps with the same rows. `room`: weight_bytes of shared memory. By all threads.
template <class S>
__device__ void add_up_columns(Fragment (&sum)[S::fragments], char* room) {
  constexpr int at_once = S::weight_bytes / (product_warps * 512);
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
  float4* of_warp = reinterpret_cast<float4*>(room) + lane;  // [product_warps, at_once, 32]
#pragma unroll
  for (int from = 0; from < S::fragments; from += at_once) {
    __syncthreads();
#pragma unroll
    for (int f = from; f < from + at_once && f < S::fragments; ++f) {
      if (warp < product_warps && !has_fragment<S>(f))
        of_warp[(warp * at_once + f - from) * 32] = make_float4(sum[f][0], sum[f][1], sum[f][2], sum[f][3]);
    }
    __syncthreads();
#pragma unroll
    for (int f = from; f < from + at_once && f < S::fragments; ++f) {
      if (warp >= product_warps || !has_fragment<S>(f)) continue;
#pragma unroll
      for (int c = 1; c < S::column_warps; ++c) {
        const int other = (warp + c * S::row_warps) % product_warps;
        add(sum[f], of_warp[(other * at_once + f - from) * 32]);
      }
    }
  }
}

// Sum over the parts of a tile, always in the order of the blocks.
template <class S>
__device__ void add_up_parts(Fragment (&sum)[S::fragments], const float4* parts, const Plan& plan, int first_unit,
                             int first_block, int n_parts) {
  constexpr int batch = 4;
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
  const float4* own = parts + (warp % S::row_warps) * 32 + lane;
#pragma unroll
  for (int f = 0; f < S::fragments; ++f)
    if (has_fragment<S>(f)) sum[f][0] = sum[f][1] = sum[f][2] = sum[f][3] = 0;
#pragma unroll 1
  for (int base = 0; base < n_parts; base += batch) {
    const float4* at[batch];
#pragma unroll
    for (int i = 0; i < batch; ++i)
      at[i] = own + size_t(plan.part_slot(first_block + min(base + i, n_parts - 1), first_unit)) *
                        size_t(S::fragments * S::row_warps * 32);
#pragma unroll
    for (int f = 0; f < S::fragments; ++f) {
      if (!has_fragment<S>(f)) continue;
      float4 x[batch];
#pragma unroll
      for (int i = 0; i < batch; ++i) x[i] = __ldcg(at[i] + f * S::row_warps * 32);
#pragma unroll
      for (int i = 0; i < batch; ++i)
        if (base + i < n_parts) add(sum[f], x[i]);
    }
  }
}

// Two neighbours of a row of out.
template <class T>
__device__ __forceinline__ void write_pair(const Params& p, int row, int i, float first, float second) {
  if (row >= p.n_rows || i >= p.n) return;
  const size_t at = size_t(row) * size_t(p.n) + size_t(i);
  if (p.out_f32)
    *reinterpret_cast<float2*>(static_cast<float*>(p.out) + at) = make_float2(first, second);
  else
    *reinterpret_cast<uint32_t*>(static_cast<T*>(p.out) + at) = pack<T>(first, second);
}

// Two lanes of neighbouring features exchange numbers, so that each has both of one row: `x` of row 2 t, `y`
// of row 2 t + 1, feature `i` + g.
template <class T>
__device__ __forceinline__ void write_features(const Params& p, int n_tile, int i, float x, float y) {
  const int lane = int(threadIdx.x) % 32, g = lane / 4;
  const bool odd = g % 2 != 0;
  const float other = __shfl_xor_sync(all_lanes, odd ? x : y, 4);
  write_pair<T>(p, 8 * n_tile + 2 * (lane % 4) + int(odd), i + g - int(odd), odd ? other : x, odd ? y : other);
}

template <class T, class S>
__device__ void write_outputs(const Params& p, int tile, const Fragment (&sum)[S::fragments]) {
  const int warp = int(threadIdx.x) / 32, first = tile * (S::rows / 16) + (warp % S::row_warps) * m_tiles;
#pragma unroll
  for (int f = 0; f < S::fragments; ++f) {
    if (!has_fragment<S>(f)) continue;
    const int m_tile = first + f % m_tiles, n_tile = f / m_tiles;
    const Fragment& s = sum[f];
    if (p.gated) {
      write_features<T>(p, n_tile, 8 * m_tile, swiglu::gated(s[0], s[2]), swiglu::gated(s[1], s[3]));
    } else {
      write_features<T>(p, n_tile, 16 * m_tile, s[0], s[1]);
      write_features<T>(p, n_tile, 16 * m_tile + 8, s[2], s[3]);
    }
  }
}

// The block's sums of a tile, complete or a part of it, into out or the workspace. By all threads; `room` as
// above, `flag` in shared memory too.
template <class T, class S>
__device__ void finish_tile(const Params& p, const Plan& plan, const Workspace& workspace, int tile,
                            Fragment (&sum)[S::fragments], char* room, int* flag) {
  const int warp = int(threadIdx.x) / 32, first_unit = tile * plan.tile_units;
  if (S::column_warps > 1) add_up_columns<S>(sum, room);
  const int first = plan.block_of(first_unit), last = plan.block_of(first_unit + plan.tile_units - 1);
  if (first < last) {
    const size_t slot = size_t(plan.part_slot(int(blockIdx.x), first_unit)) * S::fragments;
#pragma unroll
    for (int f = 0; f < S::fragments; ++f) {
      if (warp < product_warps && has_fragment<S>(f))
        workspace.parts[((slot + size_t(f)) * S::row_warps + size_t(warp % S::row_warps)) * 32 +
                        threadIdx.x % 32] = make_float4(sum[f][0], sum[f][1], sum[f][2], sum[f][3]);
    }
    if (!last_to_arrive(workspace.arrived + first, last - first + 1, flag)) return;
    if (warp < product_warps)
      add_up_parts<S>(sum, workspace.parts, plan, first_unit, first, last - first + 1);
  }
  if (warp < product_warps) write_outputs<T, S>(p, tile, sum);
}

}  // namespace deltacal::kernels::cuda::linear
