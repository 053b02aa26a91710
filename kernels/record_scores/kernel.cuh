// A block takes 16 rows; each of its 8 warps one or two pages of keys of its own, under all heads. The
// results of a warp's mma have the same rows and keys for every head, so the maximum over heads and the sums
// stay in registers, and a page needs one reduction over four lanes at the end. No two blocks share a result:
// one pass, no merge. Bound by the tensor cores and, a third of it, exponentials: 2 head_dim operations a
// row, head and key. Keys are read once for 16 rows, from L2; queries once for a block's 128 or 256 keys.
#pragma once
#include "kernels/record_scores/params.h"
#include "kernels/row_tile/tile.cuh"

namespace deltacal::kernels::cuda::record_scores {
using namespace row_tile;

// Of one warp: so many that its share of the keys leaves registers for the rest.
__host__ __device__ constexpr int pages_per_warp(int head_dim) {
  return head_dim <= 128 ? 2 : 1;
}
__host__ __device__ constexpr int pages_per_block(int head_dim) {
  return n_warps * pages_per_warp(head_dim);
}
// Staged at a time, within 48 KB.
__host__ __device__ constexpr int heads_staged(int head_dim) {
  return head_dim <= 128 ? 8 : 4;
}

// x[page][i] of the lane's rows i (summed over the lanes of a row) to out[row, page] of rows `row_stride`
// apart; 0 for pages past the row's own.
template <int n_pages>
__device__ __forceinline__ void write_pages(float* out, int64_t row_stride, const float (&x)[n_pages][2],
                                            float factor, const Sight& sight, int first_page, int out_pages) {
  const int lane = lane_of_thread();
  const int page = first_page + lane % 4;
  if (lane % 4 >= n_pages || page >= out_pages) return;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float mine = n_pages == 2 && lane % 4 == 1 ? x[n_pages - 1][i] : x[0][i];
    if (sight.position[i] >= 0)
      out[(lane / 4 + 8 * i) * row_stride + page] = sight.sees_page(i, page) ? mine * factor : 0.0f;
  }
}

// Of the probabilities of one head: the maximum so far of each row and key, the sums so far of each row and
// page.
template <int n_pages>
__device__ __forceinline__ void take_head(float (&top)[2 * n_pages][4], float (&sum)[n_pages][2],
                                          const float (&alpha)[2 * n_pages][4]) {
#pragma unroll
  for (int n = 0; n < 2 * n_pages; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      top[n][e] = max_nan(top[n][e], alpha[n][e]);
      sum[n / 2][e / 2] += alpha[n][e];
    }
}

template <int n_pages>
__device__ __forceinline__ void sum_lanes(float (&x)[n_pages][2]) {
#pragma unroll
  for (int j = 0; j < n_pages; ++j)
#pragma unroll
    for (int i = 0; i < 2; ++i) x[j][i] = quad_sum(x[j][i]);
}

// The pages' scores from the maxima over heads.
template <int n_pages>
__device__ __forceinline__ void page_scores(float (&score)[n_pages][2], const float (&top)[2 * n_pages][4],
                                            Page page) {
#pragma unroll
  for (int j = 0; j < n_pages; ++j)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float a = top[2 * j][2 * i], b = top[2 * j][2 * i + 1];
      const float c = top[2 * j + 1][2 * i], d = top[2 * j + 1][2 * i + 1];
      score[j][i] =
          page == Page::sum ? quad_sum((a + b) + (c + d)) : quad_max(max_nan(max_nan(a, b), max_nan(c, d)));
    }
}

template <class T, int head_dim>
__global__ void __launch_bounds__(n_threads, 2) record(const Params p) {
  constexpr int n_pages = pages_per_warp(head_dim), n_tiles = 2 * n_pages, n_staged = heads_staged(head_dim);
  __shared__ __align__(16) char q[n_staged * tile_rows * row_bytes(head_dim)];  // [n_staged, 16, row_bytes]
  __shared__ float lse[n_staged * tile_rows];                                   // [n_staged, 16]
  const int lane = lane_of_thread(), group = p.n_heads / p.n_kv_heads;
  const int64_t first_row = int64_t(blockIdx.x) * tile_rows;
  const int block_page = int(blockIdx.y) * pages_per_block(head_dim);
  const int first_page = block_page + warp_of_thread() * n_pages, first_key = first_page * 16;
  wait_for_previous();
  const Sight sight(p.position, int(first_row), p.n_rows, p.n_keys);
  const bool block_sees = block_page * 16 <= sight.longest, warp_sees = first_key <= sight.longest;
  const int rows = int(min(int64_t(tile_rows), p.n_rows - first_row));
  const float scale = p.scale * log2_e;

  float top[n_tiles][4] = {}, total[n_pages][2] = {};
  for (int g = 0; g < p.n_kv_heads; ++g) {
    uint4 keys[n_tiles][head_dim / 32];
    float sum[n_pages][2] = {};
    if (warp_sees)
      load_keys<head_dim, n_tiles>(keys, static_cast<const T*>(p.keys) + g * p.key_head_stride,
                                   p.key_token_stride, first_key, p.n_keys);
    for (int first = 0; block_sees && first < group; first += n_staged) {
      const int n_heads = min(n_staged, group - first);
      const int64_t head = first_row * p.n_heads + g * group + first;
      __syncthreads();  // the heads before have been read
      stage_rows<head_dim>(q, static_cast<const T*>(p.q) + head * head_dim, int64_t(p.n_heads) * head_dim,
                           n_heads, rows);
      stage_lse(lse, p.lse + head, p.n_heads, n_heads, rows);
      copies_done();
      __syncthreads();
#pragma unroll 1
      for (int h = 0; warp_sees && h < n_heads; ++h) {
        const float row_lse[2] = {lse[h * tile_rows + lane / 4], lse[h * tile_rows + lane / 4 + 8]};
        float alpha[n_tiles][4] = {};
        add_products<T, head_dim, n_tiles>(alpha, q + h * tile_rows * row_bytes(head_dim), keys);
        to_probabilities<n_tiles>(alpha, scale, row_lse, sight, first_key);
        take_head<n_pages>(top, sum, alpha);
      }
    }
    sum_lanes<n_pages>(sum);
    if (p.group_mass)
      write_pages<n_pages>(p.group_mass + (first_row * p.n_kv_heads + g) * p.out_pages,
                           int64_t(p.n_kv_heads) * p.out_pages, sum, 1.0f / float(group), sight, first_page,
                           p.out_pages);
#pragma unroll
    for (int j = 0; j < n_pages; ++j)
#pragma unroll
      for (int i = 0; i < 2; ++i) total[j][i] += sum[j][i];
  }
  float score[n_pages][2];
  page_scores<n_pages>(score, top, p.page);
  write_pages<n_pages>(p.score + first_row * p.out_pages, p.out_pages, score, 1.0f, sight, first_page,
                       p.out_pages);
  if (p.mass)
    write_pages<n_pages>(p.mass + first_row * p.out_pages, p.out_pages, total, 1.0f / float(p.n_heads), sight,
                         first_page, p.out_pages);
}

inline dim3 grid_of(const Params& p) {
  return dim3(divide_up(p.n_rows, tile_rows), divide_up(p.out_pages, pages_per_block(p.head_dim)));
}

template <class T>
auto kernel_of(int head_dim) {
  switch (head_dim) {
    case 64:
      return record<T, 64>;
    case 96:
      return record<T, 96>;
    case 128:
      return record<T, 128>;
    default:
      return record<T, 256>;
  }
}

// The kernel for checked parameters, n_threads a block.
inline auto kernel_of(const Params& p) {
  return p.type == Type::bf16 ? kernel_of<bf16>(p.head_dim) : kernel_of<f16>(p.head_dim);
}

}  // namespace deltacal::kernels::cuda::record_scores
