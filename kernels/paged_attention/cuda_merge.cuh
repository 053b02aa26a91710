// Outputs of an item from those of a block's warps, and from the parts of several blocks.
#pragma once
#include "kernels/paged_attention/cuda_softmax.cuh"

namespace deltacal::kernels::cuda::paged_attention {

// The call's workspace. Parts of block b are at 2 b and 2 b + 1 (cuda_plan.h).
struct Workspace {
  float* out = nullptr;    // [2 n_blocks, 16, head_dim] sum of 2^(logit - max) times the value
  float2* sums = nullptr;  // [2 n_blocks, 16] max, and sum of 2^(logit - max)
  int* arrived = nullptr;  // [n_rows, tiles] parts of the item that are there; 0 between calls
};

// One item: the 16 heads, or what there is of them, of one tile of one row.
struct Item {
  int row = 0, tile = 0;
  int first = 0, end = 0;  // units
  int kv_head = 0;
  int in_group = 0;           // first query head of the tile among those of the key/value head
  int head = 0, n_heads = 0;  // the same among all, and the number of the tile's heads
  int length = 0;             // keys that the row sees

  __device__ static Item at(const Work& work, const Cursor& cursor, int unit) {
    Item item;
    const int group = work.p.n_heads / work.p.kv.n_kv_heads;
    item.row = cursor.row;
    item.tile = (unit - cursor.first) / cursor.pages;
    item.first = cursor.first + item.tile * cursor.pages;
    item.end = item.first + cursor.pages;
    item.kv_head = item.tile / work.group_tiles;
    item.in_group = item.tile % work.group_tiles * tile_heads;
    item.head = item.kv_head * group + item.in_group;
    item.n_heads = min(tile_heads, group - item.in_group);
    item.length = work.p.length[cursor.row];
    return item;
  }
};

// Sums and log-sum of a head: what the row's outputs are divided by.
__device__ __forceinline__ void write_lse(const Params& p, const Item& item, int head_of_tile, float max,
                                          float sum) {
  const size_t at = size_t(item.row) * size_t(p.n_heads) + size_t(item.head + head_of_tile);
  const float lse2 = max + log2f(sum);
  if (p.lse) p.lse[at] = lse2 * ln_2;
  if (p.logits.relative) p.logits.lse2[at] = lse2;
}

template <class T, int D>
__device__ __forceinline__ T* output(const Params& p, const Item& item, int head_of_tile) {
  return static_cast<T*>(p.out) +
         (size_t(item.row) * size_t(p.n_heads) + size_t(item.head + head_of_tile)) * D;
}

// The warps' states into the row's output where the block has the whole item, otherwise into part `slot`. By
// all threads, which meet before and after.
template <class T, int D>
__device__ void merge_warps(const Params& p, const Item& item, bool whole, const Workspace& to, int slot,
                            char* shared, State<D>& state) {
  using S = Shared<D>;
  const int thread = int(threadIdx.x), warp = thread / 32, lane = thread % 32, r = lane / 4, c = lane % 4;
  float2* pairs = reinterpret_cast<float2*>(shared + S::buffer);  // [n_warps, 8, D / 2]
  float2* sums = reinterpret_cast<float2*>(shared + S::sums);     // [n_warps, 16]
  const float sum0 = lanes_sum<4>(state.sum[0]), sum1 = lanes_sum<4>(state.sum[1]);
  if (c == 0) {
    sums[warp * tile_heads + r] = make_float2(state.max[0], sum0);
    sums[warp * tile_heads + r + 8] = make_float2(state.max[1], sum1);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int rows = min(8, item.n_heads - 8 * half);
    if (rows <= 0) break;
    __syncthreads();  // the buffer's last readers are done
#pragma unroll
    for (int i = 0; i < D / 8; ++i) {
      pairs[warp * 8 * (D / 2) + pair_place(D, r, 4 * i + c)] =
          make_float2(state.out[i][2 * half], state.out[i][2 * half + 1]);
    }
    __syncthreads();
    for (int i = thread; i < rows * (D / 2); i += n_warps * 32) {
      const int row = i / (D / 2), x = i % (D / 2), h = 8 * half + row;
      float max = -INFINITY, sum = 0;
      float2 out = make_float2(0, 0);
#pragma unroll
      for (int w = 0; w < n_warps; ++w) max = fmaxf(max, sums[w * tile_heads + h].x);
#pragma unroll
      for (int w = 0; w < n_warps; ++w) {
        const float2 of_warp = sums[w * tile_heads + h],
                     pair = pairs[w * 8 * (D / 2) + pair_place(D, row, x)];
        const float weight = exp2_fast(of_warp.x - finite_max(max));
        sum += weight * of_warp.y;
        out.x += weight * pair.x, out.y += weight * pair.y;
      }
      if (whole) {
        reinterpret_cast<uint32_t*>(output<T, D>(p, item, h))[x] = pack<T>(out.x / sum, out.y / sum);
        if (x == 0) write_lse(p, item, h, max, sum);
      } else {
        reinterpret_cast<float2*>(to.out)[(size_t(slot) * tile_heads + size_t(h)) * (D / 2) + size_t(x)] =
            out;
        if (x == 0) to.sums[slot * tile_heads + h] = make_float2(max, sum);
      }
    }
  }
  __syncthreads();
}

// Weights of an item's parts, over the sum of all, into shared memory: [part, 16]. A warp takes every fourth
// head.
template <int D>
__device__ void part_weights(const Params& p, const Item& item, const Workspace& from, Blocks blocks,
                             int chunk, float* weights) {
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32,
            n_parts = blocks.last - blocks.first + 1;
  for (int h = warp; h < item.n_heads; h += n_warps) {
    float2 part[max_parts / 32];
    float max = -INFINITY, sum = 0;
#pragma unroll
    for (int k = 0; k < max_parts / 32; ++k) {
      const int i = lane + 32 * k;
      part[k] = make_float2(-INFINITY, 0);
      if (i < n_parts)
        part[k] = __ldcg(from.sums + part_slot(blocks.first + i, item.first, chunk) * tile_heads + h);
      max = fmaxf(max, part[k].x);
    }
    max = lanes_max(max);
#pragma unroll
    for (int k = 0; k < max_parts / 32; ++k) {
      part[k].x = exp2_fast(part[k].x - finite_max(max));
      sum += part[k].x * part[k].y;
    }
    sum = lanes_sum(sum);
#pragma unroll
    for (int k = 0; k < max_parts / 32; ++k) {
      if (lane + 32 * k < n_parts) weights[(lane + 32 * k) * tile_heads + h] = part[k].x / sum;
    }
    if (lane == 0) write_lse(p, item, h, max, sum);
  }
}

// The parts of an item into the row's output, always in the order of the blocks. By all threads of the block
// that arrived last, which meet before and after.
template <class T, int D>
__device__ void merge_parts(const Params& p, const Item& item, const Workspace& from, int chunk,
                            char* shared) {
  const Blocks blocks = blocks_of(item.first, item.end, chunk);
  const int n_parts = blocks.last - blocks.first + 1;
  float* weights = reinterpret_cast<float*>(shared + Shared<D>::buffer);  // [n_parts, 16]
  part_weights<D>(p, item, from, blocks, chunk, weights);
  __syncthreads();
  for (int i = int(threadIdx.x); i < item.n_heads * (D / 4); i += n_warps * 32) {
    const int h = i / (D / 4), x = i % (D / 4);
    float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 8
    for (int part = 0; part < n_parts; ++part) {
      const size_t slot = size_t(part_slot(blocks.first + part, item.first, chunk));
      const float4 out = __ldcg(reinterpret_cast<const float4*>(from.out) +
                                (slot * tile_heads + size_t(h)) * (D / 4) + size_t(x));
      const float weight = weights[part * tile_heads + h];
      sum.x += weight * out.x, sum.y += weight * out.y, sum.z += weight * out.z, sum.w += weight * out.w;
    }
    reinterpret_cast<uint2*>(output<T, D>(p, item, h))[x] =
        make_uint2(pack<T>(sum.x, sum.y), pack<T>(sum.z, sum.w));
  }
  __syncthreads();
}

}  // namespace deltacal::kernels::cuda::paged_attention
