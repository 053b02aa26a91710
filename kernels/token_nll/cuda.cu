// A block a row, read once: each thread keeps the largest number it has met and the sum of exponentials
// relative to it, a barrier joins them. Bound by memory (4 bytes a number).
#include "kernels/cuda/device.cuh"
#include "kernels/token_nll/cuda.h"

namespace deltacal::kernels::cuda::token_nll {
namespace {

constexpr int n_threads = 512, n_warps = n_threads / 32;
constexpr float lowest = -3.402823466e38f;  // below it no difference is taken

// sum of 2^(x - top) over the numbers met, which are in powers of 2.
struct Sum {
  float top = lowest, sum = 0;
  __device__ void add(float x) {
    const float above = max_nan(top, x);
    sum = sum * exp2_fast(top - above) + exp2_fast(x - above);
    top = above;
  }
  __device__ void add(const Sum& other) {
    const float above = max_nan(top, other.top);
    sum = sum * exp2_fast(top - above) + other.sum * exp2_fast(other.top - above);
    top = above;
  }
  __device__ Sum of_lane_across(int offset) const {
    Sum other;
    other.top = __shfl_xor_sync(all_lanes, top, offset);
    other.sum = __shfl_xor_sync(all_lanes, sum, offset);
    return other;
  }
};

__device__ __forceinline__ void add_four(Sum& sum, float4 x) {
  x = make_float4(x.x * log2_e, x.y * log2_e, x.z * log2_e, x.w * log2_e);
  const float above = max_nan(sum.top, max_nan(max_nan(x.x, x.y), max_nan(x.z, x.w)));
  sum.sum = sum.sum * exp2_fast(sum.top - above) + ((exp2_fast(x.x - above) + exp2_fast(x.y - above)) +
                                                    (exp2_fast(x.z - above) + exp2_fast(x.w - above)));
  sum.top = above;
}

__global__ void __launch_bounds__(n_threads) nll(const Params p) {
  __shared__ float2 of_warp[n_warps];  // top and sum
  wait_for_previous();
  let_next_start();
  const int r = int(blockIdx.x), thread = int(threadIdx.x), lane = thread % 32;
  const float* row = p.logits + size_t(r) * size_t(p.n);
  Sum sum;
  if (p.n % 4 == 0) {
    const float4* quads = reinterpret_cast<const float4*>(row);
    for (int i = thread; i < p.n / 4; i += n_threads) add_four(sum, quads[i]);
  } else {
    for (int i = thread; i < p.n; i += n_threads) sum.add(row[i] * log2_e);
  }
  for (int offset = 16; offset > 0; offset /= 2) sum.add(sum.of_lane_across(offset));
  if (lane == 0) of_warp[thread / 32] = make_float2(sum.top, sum.sum);
  __syncthreads();
  if (thread >= 32) return;
  Sum all;
  all.top = of_warp[lane % n_warps].x, all.sum = of_warp[lane % n_warps].y;
  for (int offset = n_warps / 2; offset > 0; offset /= 2) all.add(all.of_lane_across(offset));
  if (thread == 0) p.nll[r] = all.top * ln_2 + logf(all.sum) - row[p.target[r]];
}

}  // namespace

void run(const Params& p, const Launch& launch) {
  constexpr const char* kernel = "token_nll";
  require(p.n_rows >= 0, kernel, "n_rows", p.n_rows, "at least 0");
  if (p.n_rows == 0) return;
  require(p.n >= 1, kernel, "n", p.n, "at least 1");
  require_aligned(kernel, "logits", p.logits, 16);
  require_aligned(kernel, "target", p.target, 4);
  require_aligned(kernel, "nll", p.nll, 4);
  launch_kernel(kernel, nll, dim3(unsigned(p.n_rows)), n_threads, 0, launch, p);
}

}  // namespace deltacal::kernels::cuda::token_nll
