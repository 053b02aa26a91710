// A block a row, as in rms_norm/cuda.cu: a thread holds up to 16 numbers of it in registers, in quads, and
// one barrier adds up the squares and the products. Bound by memory (16 bytes a number).
#include "kernels/cuda/device.cuh"
#include "kernels/rms_norm_backward/cuda.h"

namespace deltacal::kernels::cuda::rms_norm_backward {
namespace {

using rms_norm::check_rows, rms_norm::max_threads, rms_norm::RowBlock;

// Sums over the block; by all threads, once in a kernel.
__device__ float2 block_sums(float2 x) {
  __shared__ float2 of_warp[32];
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32, n_warps = int(blockDim.x) / 32;
  x = make_float2(lanes_sum(x.x), lanes_sum(x.y));
  if (lane == 0) of_warp[warp] = x;
  __syncthreads();
  x = lane < n_warps ? of_warp[lane] : make_float2(0, 0);
  return make_float2(lanes_sum(x.x), lanes_sum(x.y));
}

__device__ __forceinline__ float dot(float4 a, float4 b) {
  return a.x * b.x + a.y * b.y + (a.z * b.z + a.w * b.w);
}

// quads: of a thread.
template <class T, int quads>
__global__ void __launch_bounds__(max_threads) backward(const Params p) {
  let_next_start();
  wait_for_previous();
  const int n_quads = p.n / 4, n_threads = int(blockDim.x);
  const size_t row = size_t(blockIdx.x) * size_t(n_quads);
  const float4* x = reinterpret_cast<const float4*>(p.x) + row;
  const uint2* dy = static_cast<const uint2*>(p.dy) + row;
  const float4* weight = reinterpret_cast<const float4*>(p.weight);
  float4* gradient = reinterpret_cast<float4*>(p.gradient) + row;

  float4 own[quads] = {}, through[quads] = {}, sum[quads] = {};  // x, weight dy, the gradient
#pragma unroll
  for (int k = 0; k < quads; ++k) {
    const int i = int(threadIdx.x) + k * n_threads;
    if (i >= n_quads) continue;
    own[k] = x[i];
    sum[k] = gradient[i];
    const uint2 packed = dy[i];
    const float4 factor = __ldg(weight + i);
    const float2 first = unpack<T>(packed.x), second = unpack<T>(packed.y);
    through[k] =
        make_float4(first.x * factor.x, first.y * factor.y, second.x * factor.z, second.y * factor.w);
  }
  float2 sums = make_float2(0, 0);  // of squares, of products
#pragma unroll
  for (int k = 0; k < quads; ++k)
    sums = make_float2(sums.x + dot(own[k], own[k]), sums.y + dot(own[k], through[k]));
  sums = block_sums(sums);
  const float scale = 1.0f / sqrtf(sums.x / float(p.n) + p.epsilon),
              along = scale * scale * sums.y / float(p.n);
#pragma unroll
  for (int k = 0; k < quads; ++k) {
    const int i = int(threadIdx.x) + k * n_threads;
    if (i >= n_quads) continue;
    const float4 g = make_float4(sum[k].x + scale * (through[k].x - along * own[k].x),
                                 sum[k].y + scale * (through[k].y - along * own[k].y),
                                 sum[k].z + scale * (through[k].z - along * own[k].z),
                                 sum[k].w + scale * (through[k].w - along * own[k].w));
    gradient[i] = g;
    static_cast<uint2*>(p.out)[row + size_t(i)] = make_uint2(pack<T>(g.x, g.y), pack<T>(g.z, g.w));
  }
}

template <class T>
auto kernel_of(int quads) {
  return quads == 1 ? backward<T, 1> : quads == 2 ? backward<T, 2> : backward<T, 4>;
}

}  // namespace

void run(const Params& p, const Launch& launch) {
  constexpr const char* kernel = "rms_norm_backward";
  require(p.n_rows >= 0, kernel, "n_rows", p.n_rows, "at least 0");
  if (p.n_rows == 0) return;
  check_rows(kernel, p.n, p.epsilon, p.type);
  require_aligned(kernel, "x", p.x, 16);
  require_aligned(kernel, "weight", p.weight, 16);
  require_aligned(kernel, "dy", p.dy, 16);
  require_aligned(kernel, "gradient", p.gradient, 16);
  require_aligned(kernel, "out", p.out, 16);
  const RowBlock block(p.n);
  launch_kernel(kernel, p.type == Type::bf16 ? kernel_of<bf16>(block.quads) : kernel_of<f16>(block.quads),
                dim3(unsigned(p.n_rows)), block.threads, 0, launch, p);
}

}  // namespace deltacal::kernels::cuda::rms_norm_backward
