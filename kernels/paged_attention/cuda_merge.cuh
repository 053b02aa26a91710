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
  if (p.logits.records) p.logits.lse2[at] = lse2;
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
    for (int i = thread; i < rows * (D / 2); i += S::n_warps * 32) {
      const int row = i / (D / 2), x = i % (D / 2), h = 8 * half + row;
      float max = -INFINITY, sum = 0;
      float2 out = make_float2(0, 0);
#pragma unroll
      for (int w = 0; w < S::n_warps; ++w) max = fmaxf(max, sums[w * tile_heads + h].x);
#pragma unroll
      for (int w = 0; w < S::n_warps; ++w) {
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

// Weights of an item's parts, over the sum of all, into shared memory: [part, 16]. A warp takes every
// n_warps-th head; what it needs of all of them is asked for at once.
template <int D>
__device__ void part_weights(const Params& p, const Item& item, const Workspace& from, Blocks blocks,
                             int chunk, float* weights) {
  constexpr int n_warps = Shared<D>::n_warps, heads = tile_heads / n_warps,
                parts = max_parts / 32;  // of a warp, of a lane
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32,
            n_parts = blocks.last - blocks.first + 1;
  float2 part[heads][parts];
#pragma unroll
  for (int i = 0; i < heads; ++i) {
#pragma unroll
    for (int k = 0; k < parts; ++k) {
      const int h = warp + n_warps * i, number = lane + 32 * k;
      const int slot = part_slot(blocks.first + number, item.first, chunk);
      part[i][k] = make_float2(-INFINITY, 0);
      if (h < item.n_heads && number < n_parts) part[i][k] = __ldcg(from.sums + slot * tile_heads + h);
    }
  }
#pragma unroll
  for (int i = 0; i < heads; ++i) {
    const int h = warp + n_warps * i;
    if (h >= item.n_heads) break;
    float max = -INFINITY, sum = 0;
#pragma unroll
    for (int k = 0; k < parts; ++k) max = fmaxf(max, part[i][k].x);
    max = lanes_max(max);
#pragma unroll
    for (int k = 0; k < parts; ++k) {
      part[i][k].x = exp2_fast(part[i][k].x - finite_max(max));
      sum += part[i][k].x * part[i][k].y;
    }
    sum = lanes_sum(sum);
#pragma unroll
    for (int k = 0; k < parts; ++k) {
      if (lane + 32 * k < n_parts) weights[(lane + 32 * k) * tile_heads + h] = part[i][k].x / sum;
    }
    if (lane == 0) write_lse(p, item, h, max, sum);
  }
}

// The parts of an item into the row's output, always in the order of the blocks. By all threads of the block
// that arrived last, which meet before and after. One block reads what up to 128 have written: a thread has
// 32 loads under way, or the latency of one after the other would be most of a short call.
template <class T, int D>
__device__ void merge_parts(const Params& p, const Item& item, const Workspace& from, int chunk,
                            char* shared) {
  constexpr int n_threads = Shared<D>::n_warps * 32, at_once = 256 / n_threads, batch = 32 / at_once;
  const Blocks blocks = blocks_of(item.first, item.end, chunk);
  const int n_parts = blocks.last - blocks.first + 1, n_quads = item.n_heads * (D / 4);
  float* weights = reinterpret_cast<float*>(shared + Shared<D>::buffer);  // [n_parts, 16]
  part_weights<D>(p, item, from, blocks, chunk, weights);
  __syncthreads();
  for (int first = int(threadIdx.x); first < n_quads; first += at_once * n_threads) {
    float4 sum[at_once] = {};
#pragma unroll 1
    for (int base = 0; base < n_parts; base += batch) {
      float4 out[at_once][batch];
#pragma unroll
      for (int t = 0; t < at_once; ++t) {
#pragma unroll
        for (int k = 0; k < batch; ++k) {
          const int quad = first + t * n_threads;
          const size_t slot = size_t(part_slot(blocks.first + base + k, item.first, chunk));
          out[t][k] = make_float4(0, 0, 0, 0);
          if (quad < n_quads && base + k < n_parts)
            out[t][k] = __ldcg(reinterpret_cast<const float4*>(from.out) + slot * tile_heads * (D / 4) +
                               size_t(quad));
        }
      }
#pragma unroll
      for (int t = 0; t < at_once; ++t) {
        const int h = min((first + t * n_threads) / (D / 4), item.n_heads - 1);
#pragma unroll
        for (int k = 0; k < batch; ++k) {
          const float weight = weights[min(base + k, n_parts - 1) * tile_heads + h];
          sum[t].x += weight * out[t][k].x, sum[t].y += weight * out[t][k].y;
          sum[t].z += weight * out[t][k].z, sum[t].w += weight * out[t][k].w;
        }
      }
    }
#pragma unroll
    for (int t = 0; t < at_once; ++t) {
      const int quad = first + t * n_threads, h = quad / (D / 4), x = quad % (D / 4);
      if (quad < n_quads)
        reinterpret_cast<uint2*>(output<T, D>(p, item, h))[x] =
            make_uint2(pack<T>(sum[t].x, sum[t].y), pack<T>(sum[t].z, sum[t].w));
    }
  }
  __syncthreads();
}

}  // namespace deltacal::kernels::cuda::paged_attention
