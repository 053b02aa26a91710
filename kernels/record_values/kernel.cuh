// A block takes 16 rows and one gradient; each of its 8 warps one page of keys and values of its own, under
// all heads. With probabilities and products gradient . value [16 rows, 16 keys] in the same registers, a
// page's value is their product summed over four lanes. Each gradient computes the probabilities anew (a
// third of its work); the first one writes the masses. Bound by the tensor cores, 6 head_dim operations a
// row, head, key and gradient, and by writing n_heads pages for each row, 4 bytes each.
#pragma once
#include "kernels/record_values/params.h"
#include "kernels/row_tile/tile.cuh"

namespace deltacal::kernels::cuda::record_values {
using namespace row_tile;

// Staged at a time with queries and both terms of the gradient, within 48 KB.
__host__ __device__ constexpr int heads_staged(int head_dim) {
  return head_dim <= 96 ? 4 : head_dim <= 128 ? 3 : 1;
}

// The gradients of `n_heads` heads of the tile's rows, scaled by a power of two and split into `high` +
// `low`, both [n_heads, 16, row_bytes]; `unscale` [n_heads, 16] undoes the scale. A warp takes a row and
// head. Rows from n_rows on are 0.
template <class T, int head_dim>
__device__ __forceinline__ void stage_gradients(char* high, char* low, float* unscale, const float* from,
                                                int64_t row_stride, int n_heads, int n_rows) {
  constexpr int n_pairs = head_dim / 2, per_lane = divide_up(n_pairs, 32);
  const int lane = lane_of_thread();
#pragma unroll 1
  for (int i = warp_of_thread(); i < n_heads * tile_rows; i += n_warps) {
    const int row = i % tile_rows, head = i / tile_rows;
    const float2* source = reinterpret_cast<const float2*>(from + row * row_stride + head * head_dim);
    float2 x[per_lane];
    float largest = 0;
#pragma unroll
    for (int j = 0; j < per_lane; ++j) {
      const bool there = row < n_rows && lane + 32 * j < n_pairs;
      x[j] = there ? __ldg(source + lane + 32 * j) : make_float2(0, 0);
      largest = max_nan(largest, max_nan(fabsf(x[j].x), fabsf(x[j].y)));
    }
    for (int step = 1; step < 32; step *= 2) largest = max_nan(largest, __shfl_xor_sync(~0u, largest, step));
    const int exponent = scale_exponent(__float_as_uint(largest));
    const float scale = __uint_as_float(power_bits(exponent));
    if (lane == 0) unscale[i] = __uint_as_float(power_bits(-exponent));
#pragma unroll
    for (int j = 0; j < per_lane; ++j) {
      if (lane + 32 * j >= n_pairs) continue;
      const float a = x[j].x * scale, b = x[j].y * scale;
      const uint32_t first = pack<T>(a, b);
      const float2 known = unpack<T>(first);
      const int at = i * row_bytes(head_dim) + 4 * (lane + 32 * j);
      *reinterpret_cast<uint32_t*>(high + at) = first;
      *reinterpret_cast<uint32_t*>(low + at) = pack<T>(a - known.x, b - known.y);
    }
  }
}

// Over the keys of the page and the four lanes of a row: sum of alpha and of alpha times `product`, for the
// lane's two rows. Keys that a row does not see have alpha 0, and what lies there does not count, whatever it
// is.
__device__ __forceinline__ void sum_page(float (&mass)[2], float (&value)[2], const float (&alpha)[2][4],
                                         const float (&product)[2][4], const Sight& sight, int first_key) {
  const int lane = lane_of_thread();
  const bool cut = sight.cut_before(first_key + 16);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float m = 0, v = 0;
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int e = 2 * i; e < 2 * i + 2; ++e) {
        m += alpha[n][e];
        if (!cut || first_key + 8 * n + result_column(lane, e) <= sight.position[i])
          v = fmaf(alpha[n][e], product[n][e], v);
      }
    mass[i] = quad_sum(m), value[i] = quad_sum(v);
  }
}

template <class T, int head_dim>
__global__ void __launch_bounds__(n_threads, head_dim <= 128 ? 2 : 1) page_values(const Params p) {
  constexpr int n_staged = heads_staged(head_dim), head_bytes = tile_rows * row_bytes(head_dim);
  __shared__ __align__(16) char q[n_staged * head_bytes];  // [n_staged, 16, row_bytes], as high and low
  __shared__ __align__(16) char high[n_staged * head_bytes], low[n_staged * head_bytes];
  __shared__ float lse[n_staged * tile_rows], unscale[n_staged * tile_rows];  // [n_staged, 16]
  const int lane = lane_of_thread(), group = p.n_heads / p.n_kv_heads, gradient = int(blockIdx.z);
  const int64_t first_row = int64_t(blockIdx.x) * tile_rows;
  const int block_page = int(blockIdx.y) * n_warps;
  const int page = block_page + warp_of_thread(), first_key = page * 16;
  wait_for_previous();
  const Sight sight(p.position, int(first_row), p.n_rows, p.n_keys);
  const bool block_sees = block_page * 16 <= sight.longest, warp_sees = first_key <= sight.longest;
  const int rows = int(min(int64_t(tile_rows), p.n_rows - first_row));
  const int64_t gradient_row = int64_t(gradient) * p.n_rows + first_row;
  const float scale = p.scale * log2_e;

  for (int g = 0; g < p.n_kv_heads; ++g) {
    uint4 keys[2][head_dim / 32], values[2][head_dim / 32];
    if (warp_sees) {
      const int64_t head = g * p.head_stride;
      load_keys<head_dim, 2>(keys, static_cast<const T*>(p.keys) + head, p.token_stride, first_key, p.n_keys);
      load_keys<head_dim, 2>(values, static_cast<const T*>(p.values) + head, p.token_stride, first_key,
                             p.n_keys);
    }
    for (int first = 0; first < group; first += n_staged) {
      const int n_heads = min(n_staged, group - first), head = g * group + first;
      if (block_sees) {
        __syncthreads();  // the heads before have been read
        stage_rows<head_dim>(q, static_cast<const T*>(p.q) + (first_row * p.n_heads + head) * head_dim,
                             int64_t(p.n_heads) * head_dim, n_heads, rows);
        stage_lse(lse, p.lse + first_row * p.n_heads + head, p.n_heads, n_heads, rows);
        stage_gradients<T, head_dim>(high, low, unscale,
                                     p.gradient + (gradient_row * p.n_heads + head) * head_dim,
                                     int64_t(p.n_heads) * head_dim, n_heads, rows);
        copies_done();
        __syncthreads();
      }
#pragma unroll 1
      for (int h = 0; h < n_heads; ++h) {
        float mass[2] = {}, value[2] = {};
        if (warp_sees) {
          const int row = h * tile_rows + lane / 4;
          const float row_lse[2] = {lse[row], lse[row + 8]};
          float alpha[2][4] = {}, product[2][4] = {};
          add_products<T, head_dim, 2>(alpha, q + h * head_bytes, keys);
          add_products<T, head_dim, 2>(product, low + h * head_bytes, values);
          add_products<T, head_dim, 2>(product, high + h * head_bytes, values);
          to_probabilities<2>(alpha, scale, row_lse, sight, first_key);
          sum_page(mass, value, alpha, product, sight, first_key);
          for (int i = 0; i < 2; ++i) value[i] *= unscale[row + 8 * i];
        }
        if (lane % 4 != 0 || page >= p.out_pages) continue;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if (sight.position[i] < 0) continue;
          const int row = lane / 4 + 8 * i;
          const bool seen = sight.sees_page(i, page);
          if (gradient == 0)
            p.mass[((first_row + row) * p.n_heads + head + h) * p.out_pages + page] = seen ? mass[i] : 0.0f;
          p.value[((gradient_row + row) * p.n_heads + head + h) * p.out_pages + page] =
              seen ? value[i] : 0.0f;
        }
      }
    }
  }
}

inline dim3 grid_of(const Params& p) {
  return dim3(divide_up(p.n_rows, tile_rows), divide_up(p.out_pages, n_warps), p.n_gradients);
}

template <class T>
auto kernel_of(int head_dim) {
  switch (head_dim) {
    case 64:
      return page_values<T, 64>;
    case 96:
      return page_values<T, 96>;
    case 128:
      return page_values<T, 128>;
    default:
      return page_values<T, 256>;
  }
}

// The kernel for checked parameters, n_threads a block.
inline auto kernel_of(const Params& p) {
  return p.type == Type::bf16 ? kernel_of<bf16>(p.head_dim) : kernel_of<f16>(p.head_dim);
}

}  // namespace deltacal::kernels::cuda::record_values
