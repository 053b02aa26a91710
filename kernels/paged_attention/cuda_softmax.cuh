// A warp's share of one item: 16 query heads against pages of 16 keys, by tensor cores.
//
// The heads are the rows of the matrix products: lane l holds the scores of heads r and r + 8, r = l / 4, for
// the keys 2c, 2c + 1, 2c + 8 and 2c + 9, c = l % 4 (kernels/cuda/mma.cuh). Rows past the tile's heads are
// zero queries.
#pragma once
#include "kernels/cuda/fragments.h"
#include "kernels/paged_attention/cuda_pages.cuh"

namespace deltacal::kernels::cuda::paged_attention {

// Softmax and output over the keys so far, in powers of 2: out is the sum of 2^(logit - max) times the value.
template <int D>
struct State {
  float max[2];  // of heads r, r + 8; the same in the four lanes of a head
  float sum[2];  // this lane's part
  float out[D / 8][4];

  __device__ void clear() {
    max[0] = max[1] = -INFINITY, sum[0] = sum[1] = 0;
#pragma unroll
    for (int i = 0; i < D / 8; ++i) out[i][0] = out[i][1] = out[i][2] = out[i][3] = 0;
  }
};

// -infinity as 0: the difference to it stays -infinity, and its power 0.
__device__ __forceinline__ float finite_max(float x) {
  return x == -INFINITY ? 0.0f : x;
}

// The queries of a tile, as the A operand. They stay in registers where these suffice.
template <class T, int D>
struct TileQueries {
  static constexpr bool in_registers = D <= 128;
  uint32_t address = 0;
  uint32_t a[in_registers ? D / 16 : 1][4];

  __device__ void load(uint32_t buffer) {
    const MatrixRow at = chunks_then_rows(D, int(threadIdx.x) % 32);
    address = buffer + at.row;
    if constexpr (in_registers) {
#pragma unroll
      for (int i = 0; i < D / 16; ++i) load_matrices(a[i], address + ((32 * i) ^ at.turn));
    }
  }
  __device__ void part(int i, uint32_t (&to)[4]) const {
    if constexpr (in_registers) {
      to[0] = a[i][0], to[1] = a[i][1], to[2] = a[i][2], to[3] = a[i][3];
    } else {
      load_matrices(to, address + ((32 * i) ^ chunks_then_rows(D, int(threadIdx.x) % 32).turn));
    }
  }
};

// s = scale q . k for the page's keys; -infinity past `valid` of them.
template <class T, int D>
__device__ __forceinline__ void page_logits(const TileQueries<T, D>& queries, uint32_t keys, float scale,
                                            int valid, float (&s)[2][4]) {
  const int lane = int(threadIdx.x) % 32;
  const MatrixRow at = rows_then_chunks(D, lane);
#pragma unroll
  for (int i = 0; i < 4; ++i) s[0][i] = s[1][i] = 0;
#pragma unroll
  for (int i = 0; i < D / 16; ++i) {
    uint32_t a[4], b[4];
    queries.part(i, a);
    load_matrices(b, keys + at.row + ((32 * i) ^ at.turn));
    mma<T>(s[0], a, b[0], b[1]);
    mma<T>(s[1], a, b[2], b[3]);
  }
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int key = 8 * tile + 2 * (lane % 4) + i % 2;
      s[tile][i] = key < valid ? s[tile][i] * scale : -INFINITY;
    }
  }
}

// state += the page: s becomes the probabilities under the new maximum.
template <int D>
__device__ __forceinline__ void page_softmax(float (&s)[2][4], const float (&page_max)[2], State<D>& state) {
  const float max0 = fmaxf(state.max[0], page_max[0]), max1 = fmaxf(state.max[1], page_max[1]);
  if (__any_sync(all_lanes, max0 > state.max[0] || max1 > state.max[1])) {
    const float keep0 = exp2_fast(state.max[0] - finite_max(max0)),
                keep1 = exp2_fast(state.max[1] - finite_max(max1));
    state.max[0] = max0, state.max[1] = max1;
    state.sum[0] *= keep0, state.sum[1] *= keep1;
#pragma unroll
    for (int i = 0; i < D / 8; ++i) {
      state.out[i][0] *= keep0, state.out[i][1] *= keep0;
      state.out[i][2] *= keep1, state.out[i][3] *= keep1;
    }
  }
  const float base0 = finite_max(max0), base1 = finite_max(max1);
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
    s[tile][0] = exp2_fast(s[tile][0] - base0), s[tile][1] = exp2_fast(s[tile][1] - base0);
    s[tile][2] = exp2_fast(s[tile][2] - base1), s[tile][3] = exp2_fast(s[tile][3] - base1);
    state.sum[0] += s[tile][0] + s[tile][1];
    state.sum[1] += s[tile][2] + s[tile][3];
  }
}

// Of two 16-bit elements, numbers `key` and key + 1 of a page, those below `valid`; the others as 0.
__device__ __forceinline__ uint32_t valid_mask(int key, int valid) {
  return (key < valid ? 0x0000ffffu : 0u) | (key + 1 < valid ? 0xffff0000u : 0u);
}

// out += p v. Values past `valid` may be anything, NaN too: 0 times it would not be 0.
template <class T, int D, bool masked>
__device__ __forceinline__ void page_values(const float (&p)[2][4], uint32_t values, int valid,
                                            State<D>& state) {
  const int lane = int(threadIdx.x) % 32;
  const MatrixRow at = chunks_then_rows(D, lane);
  const uint32_t a[4] = {pack<T>(p[0][0], p[0][1]), pack<T>(p[0][2], p[0][3]), pack<T>(p[1][0], p[1][1]),
                         pack<T>(p[1][2], p[1][3])};
  const uint32_t low = valid_mask(2 * (lane % 4), valid), high = valid_mask(2 * (lane % 4) + 8, valid);
#pragma unroll
  for (int i = 0; i < D / 16; ++i) {
    uint32_t b[4];
    load_matrices_transposed(b, values + at.row + ((32 * i) ^ at.turn));
    if constexpr (masked) b[0] &= low, b[1] &= high, b[2] &= low, b[3] &= high;
    mma<T>(state.out[2 * i], a, b[0], b[1]);
    mma<T>(state.out[2 * i + 1], a, b[2], b[3]);
  }
}

// Four bytes of a record. Floats of 2^23 and more are integers: the root is the lowest byte of its bits. The
// bits above it are shifted out, but for those of the first, which are taken off.
__device__ __forceinline__ uint32_t roots(float a, float b, float c, float d, float page_max) {
  const float half_base = -0.5f * finite_max(page_max);
  const auto word = [&](float s) {
    return __float_as_uint(fmaf(exp2_fast(fmaf(s, 0.5f, half_base)), root_steps, 0x1p23f));
  };
  return word(a) + (word(b) << 8) + (word(c) << 16) + (word(d) << 24) - 0x4b000000u;
}

// Where a warp keeps the logits of the pages of an item (PageLogits).
struct Records {
  char* first;  // of the row's first page
  int group;    // heads of a record
  int bytes;    // of a record
  int maxima;   // offset within it
  int head;     // first head of the tile within the group

  __device__ Records(const PageLogits& to, size_t kv_row, int heads, int in_group)
      : group(heads), bytes(record_bytes(heads)), maxima(heads * page_size), head(in_group) {
    first = static_cast<char*>(to.records) + kv_row * size_t(to.max_pages) * size_t(bytes);
  }
  // A page; n_heads of the tile.
  __device__ __forceinline__ void keep(int page, int n_heads, const float (&s)[2][4],
                                       const float (&page_max)[2]) const {
    if (group < 8) return keep_whole(page, s, page_max[0]);
    const int r = int(threadIdx.x) % 32 / 4;
    const float first_half[4] = {s[0][0], s[0][1], s[1][0], s[1][1]},
                second_half[4] = {s[0][2], s[0][3], s[1][2], s[1][3]};
    if (r < n_heads) keep_head(page, r, first_half, page_max[0]);
    if (r + 8 < n_heads) keep_head(page, r + 8, second_half, page_max[1]);
    fill(page, n_heads);
  }

 private:
  // Of up to seven heads, by one store of whole sectors, two words a lane: first those of the roots, then the
  // maxima.
  __device__ __forceinline__ void keep_whole(int page, const float (&s)[2][4], float page_max) const {
    const int lane = int(threadIdx.x) % 32, from = 2 * lane, head_of = from - 4 * group;
    const uint32_t own = roots(s[0][0], s[0][1], s[1][0], s[1][1], page_max);
    const uint32_t first_roots = __shfl_sync(all_lanes, own, from),
                   roots_after = __shfl_sync(all_lanes, own, from + 1);
    const float first_max = __shfl_sync(all_lanes, page_max, 4 * head_of),
                max_after = __shfl_sync(all_lanes, page_max, 4 * head_of + 4);
    const uint2 x = head_of < 0 ? make_uint2(first_roots, roots_after)
                                : make_uint2(__float_as_uint(first_max), __float_as_uint(max_after));
    if (8 * lane < bytes) reinterpret_cast<uint2*>(first + size_t(page) * size_t(bytes))[lane] = x;
  }
  // One head: four of the page's 16 keys, lanes c = 0 .. 3 side by side.
  __device__ __forceinline__ void keep_head(int page, int head_of_tile, const float (&s)[4],
                                            float page_max) const {
    const int c = int(threadIdx.x) % 4, h = head + head_of_tile;
    char* record = first + size_t(page) * size_t(bytes);
    reinterpret_cast<uint32_t*>(record)[h * 4 + c] = roots(s[0], s[1], s[2], s[3], page_max);
    if (c == 0) reinterpret_cast<float*>(record + maxima)[h] = page_max;
  }
  // What is left of the last sector, by the tile that has the group's last head: memory takes a whole sector
  // at once, but must read first one of which it gets a part.
  __device__ __forceinline__ void fill(int page, int n_heads) const {
    const int place = maxima + (head + n_heads + int(threadIdx.x) % 32) * 4;
    if (head + n_heads == group && place < bytes)
      *reinterpret_cast<float*>(first + size_t(page) * size_t(bytes) + place) = 0;
  }
};

// One page, number `page` of its row; n_heads of the tile. keeps: its logits too.
template <class T, int D, bool keeps>
__device__ __forceinline__ void attend_page(const TileQueries<T, D>& queries, uint32_t keys, uint32_t values,
                                            float scale, int valid, const Records& records, int page,
                                            int n_heads, State<D>& state) {
  float s[2][4];
  page_logits<T, D>(queries, keys, scale, valid, s);
  const float page_max[2] = {
      lanes_max<4>(fmaxf(fmaxf(s[0][0], s[0][1]), fmaxf(s[1][0], s[1][1]))),
      lanes_max<4>(fmaxf(fmaxf(s[0][2], s[0][3]), fmaxf(s[1][2], s[1][3]))),
  };
  if (keeps) records.keep(page, n_heads, s, page_max);
  page_softmax<D>(s, page_max, state);
  if (valid < page_size) {
    page_values<T, D, true>(s, values, valid, state);
  } else {
    page_values<T, D, false>(s, values, valid, state);
  }
}

}  // namespace deltacal::kernels::cuda::paged_attention
