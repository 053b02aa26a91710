// A warp a page: lane 4 i + c reads four of the 16 keys of heads i, i + 8, ...; the warps of a block read
// neighbouring pages at a time. 2^x is monotone, so the largest probability over the heads is taken among the
// exponents, and one power a position is enough; masses need one for each head too. Reads 36 bytes a page and
// head: bound by memory.
#include "kernels/cuda/device.cuh"
#include "kernels/page_score/cuda.h"

namespace deltacal::kernels::cuda::page_score {
namespace {

constexpr int n_warps = 8;

// Of a block's row, in shared memory.
struct Heads {
  float* shift;  // [n_heads] -log2 of the softmax's denominator
  int* place;    // [n_heads] of its logits of page 0 in PageLogits, from the row's first
  float* mass;   // [n_warps, n_heads]
};

// Four keys of one head, as exponents of 2.
__device__ __forceinline__ float4 exponents(const PageLogits& logits, size_t page_head, int c, float shift) {
  const uint2 packed = __ldcs(reinterpret_cast<const uint2*>(logits.relative) + page_head * 4 + c);
  const float offset = __ldcs(logits.maximum + page_head) + shift;
  const float2 first = unpack<f16>(packed.x), second = unpack<f16>(packed.y);
  return make_float4(first.x + offset, first.y + offset, second.x + offset, second.y + offset);
}

// Page score by a warp; `mass`, where not null, [n_heads] in shared memory, gets the page's sum for each
// head.
template <bool masses>
__device__ float score_page(const Params& p, size_t first, const Heads& heads, float* mass) {
  const int lane = int(threadIdx.x) % 32, c = lane % 4;
  float4 best = make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY);
#pragma unroll 4
  for (int base = 0; base < p.n_heads; base += 8) {
    const int h = base + lane / 4;
    float sum = 0;
    if (h < p.n_heads) {
      const float4 x = exponents(p.logits, first + size_t(heads.place[h]), c, heads.shift[h]);
      best.x = max_nan(best.x, x.x), best.y = max_nan(best.y, x.y);
      best.z = max_nan(best.z, x.z), best.w = max_nan(best.w, x.w);
      if (masses) sum = exp2_fast(x.x) + exp2_fast(x.y) + (exp2_fast(x.z) + exp2_fast(x.w));
    }
    if (masses) {
      sum = lanes_sum<4>(sum);
      if (h < p.n_heads && c == 0) mass[h] = sum;
    }
  }
#pragma unroll
  for (int offset = 4; offset < 32; offset *= 2) {
    best.x = max_nan(best.x, __shfl_xor_sync(all_lanes, best.x, offset));
    best.y = max_nan(best.y, __shfl_xor_sync(all_lanes, best.y, offset));
    best.z = max_nan(best.z, __shfl_xor_sync(all_lanes, best.z, offset));
    best.w = max_nan(best.w, __shfl_xor_sync(all_lanes, best.w, offset));
  }
  if (p.page == Page::sum)
    return lanes_sum<4>(exp2_fast(best.x) + exp2_fast(best.y) + (exp2_fast(best.z) + exp2_fast(best.w)));
  float largest = max_nan(max_nan(best.x, best.y), max_nan(best.z, best.w));
  largest = max_nan(largest, __shfl_xor_sync(all_lanes, largest, 1));
  largest = max_nan(largest, __shfl_xor_sync(all_lanes, largest, 2));
  return exp2_fast(largest);
}

// The masses of one page from its sums for each head.
__device__ void write_masses(const Params& p, int r, int page, const float* mass) {
  const int lane = int(threadIdx.x) % 32, group = p.n_heads / p.n_kv_heads;
  float all = 0;
  for (int g = lane; g < p.n_kv_heads; g += 32) {
    float sum = 0;
    for (int h = g * group; h < (g + 1) * group; ++h) sum += mass[h];
    all += sum;
    if (p.group_mass)
      p.group_mass[(size_t(r) * size_t(p.n_kv_heads) + size_t(g)) * size_t(p.out_pages) + size_t(page)] =
          sum / float(group);
  }
  all = lanes_sum(all);
  if (p.mass && lane == 0) p.mass[size_t(r) * size_t(p.out_pages) + size_t(page)] = all / float(p.n_heads);
}

__device__ void write_zeros(const Params& p, int r, int page) {
  const int lane = int(threadIdx.x) % 32;
  const size_t at = size_t(r) * size_t(p.out_pages) + size_t(page);
  if (lane == 0) p.score[at] = 0;
  if (p.mass && lane == 0) p.mass[at] = 0;
  for (int g = lane; p.group_mass && g < p.n_kv_heads; g += 32)
    p.group_mass[(size_t(r) * size_t(p.n_kv_heads) + size_t(g)) * size_t(p.out_pages) + size_t(page)] = 0;
}

template <bool masses>
__global__ void __launch_bounds__(n_warps * 32, 5)
    score(const __grid_constant__ Params p, const int pages_a_warp) {
  DELTACAL_DYNAMIC_SHARED(float, memory);
  const Heads heads{memory, reinterpret_cast<int*>(memory + p.n_heads), memory + 2 * p.n_heads};
  wait_for_previous();
  let_next_start();
  const int r = int(blockIdx.y), warp = int(threadIdx.x) / 32;
  const int pages = pages_for(p.length[r]), group = p.n_heads / p.n_kv_heads;
  if (p.length[r] <= 0) return;
  for (int h = int(threadIdx.x); h < p.n_heads; h += n_warps * 32) {
    heads.shift[h] = -p.logits.lse2[size_t(r) * size_t(p.n_heads) + size_t(h)];
    heads.place[h] = h / group * p.logits.max_pages * group + h % group;
  }
  __syncthreads();
  float* mass = heads.mass + warp * p.n_heads;
  for (int i = 0; i < pages_a_warp; ++i) {
    const int page = (int(blockIdx.x) * pages_a_warp + i) * n_warps + warp;
    if (page >= p.out_pages) return;
    if (page >= pages) {
      write_zeros(p, r, page);
      continue;
    }
    const size_t first =
        size_t(r) * size_t(p.logits.max_pages) * size_t(p.n_heads) + size_t(page) * size_t(group);
    const float result = score_page<masses>(p, first, heads, mass);
    if (threadIdx.x % 32 == 0) p.score[size_t(r) * size_t(p.out_pages) + size_t(page)] = result;
    if (masses) {
      __syncwarp();
      write_masses(p, r, page, mass);
      __syncwarp();
    }
  }
}

}  // namespace

void run(const Params& p, const Launch& launch) {
  constexpr const char* kernel = "page_score";
  require(p.n_rows >= 0 && p.n_rows <= 65535, kernel, "n_rows", p.n_rows, "0 to 65535");
  if (p.n_rows == 0) return;
  require(p.n_kv_heads >= 1, kernel, "n_kv_heads", p.n_kv_heads, "at least 1");
  require(p.n_heads >= 1 && p.n_heads <= 1024 && p.n_heads % p.n_kv_heads == 0, kernel, "n_heads", p.n_heads,
          "a multiple of n_kv_heads = " + std::to_string(p.n_kv_heads) + ", at most 1024");
  require_aligned(kernel, "logits.relative", p.logits.relative, 16);
  require_pointer(kernel, "logits.maximum", p.logits.maximum);
  require_pointer(kernel, "logits.lse2", p.logits.lse2);
  require_pointer(kernel, "length", p.length);
  require_pointer(kernel, "score", p.score);
  require(p.out_pages >= 1, kernel, "out_pages", p.out_pages, "at least 1, and the pages of the longest row");
  const bool masses = p.mass != nullptr || p.group_mass != nullptr;
  // Four pages a warp where that leaves each SM eight blocks or more, so that what a block reads first is
  // read less often.
  const long enough = 4L * n_warps * 8 * current_device().n_sms;
  const int pages_a_warp = long(p.n_rows) * p.out_pages >= enough ? 4 : 1,
            pages_a_block = n_warps * pages_a_warp;
  const dim3 grid(unsigned((p.out_pages + pages_a_block - 1) / pages_a_block), unsigned(p.n_rows));
  const size_t shared = size_t(p.n_heads) * sizeof(float) * (masses ? 2 + n_warps : 2);
  launch_kernel(kernel, masses ? score<true> : score<false>, grid, n_warps * 32, shared, launch, p,
                pages_a_warp);
}

}  // namespace deltacal::kernels::cuda::page_score
