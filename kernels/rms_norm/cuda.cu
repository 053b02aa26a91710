// A block a row; a thread holds up to 16 numbers of it in registers, in quads. The weight, which no cache
// holds after a layer, is asked for while the kernel before still runs, all else that a row needs at once,
// and one barrier adds up the squares: bound by latency for few rows, for many by memory (12 bytes a number).
#include "kernels/cuda/device.cuh"
#include "kernels/rms_norm/cuda.h"

namespace deltacal::kernels::cuda::rms_norm {
namespace {

// Sum over the block; by all threads, once in a kernel.
__device__ float block_sum(float x) {
  __shared__ float of_warp[32];
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32, n_warps = int(blockDim.x) / 32;
  x = lanes_sum(x);
  if (lane == 0) of_warp[warp] = x;
  __syncthreads();
  return lanes_sum(lane < n_warps ? of_warp[lane] : 0.0f);
}

// quads: of a thread.
template <class T, int quads>
__global__ void __launch_bounds__(max_threads) norm(const Params p) {
  let_next_start();  // first: a linear layer that follows reads its weight meanwhile
  const int n_quads = p.n / 4, n_threads = int(blockDim.x);
  const size_t row = size_t(blockIdx.x) * size_t(n_quads);
  float4* x = reinterpret_cast<float4*>(p.x) + row;
  const uint2* y = p.y ? static_cast<const uint2*>(p.y) + row : nullptr;
  const float4* weight = reinterpret_cast<const float4*>(p.weight);

  float4 own[quads] = {}, factor[quads] = {};
  uint2 added[quads] = {};
#pragma unroll
  for (int k = 0; k < quads; ++k) {
    const int i = int(threadIdx.x) + k * n_threads;
    if (i < n_quads) factor[k] = __ldg(weight + i);
  }
  wait_for_previous();
#pragma unroll
  for (int k = 0; k < quads; ++k) {
    const int i = int(threadIdx.x) + k * n_threads;
    if (i >= n_quads) continue;
    own[k] = x[i];
    if (y) added[k] = y[i];
  }
  float squares = 0;
#pragma unroll
  for (int k = 0; k < quads; ++k) {
    const int i = int(threadIdx.x) + k * n_threads;
    if (y && i < n_quads) {
      const float2 first = unpack<T>(added[k].x), second = unpack<T>(added[k].y);
      own[k] = make_float4(own[k].x + first.x, own[k].y + first.y, own[k].z + second.x, own[k].w + second.y);
      x[i] = own[k];
    }
    squares += own[k].x * own[k].x + own[k].y * own[k].y + (own[k].z * own[k].z + own[k].w * own[k].w);
  }
  const float scale = 1.0f / sqrtf(block_sum(squares) / float(p.n) + p.epsilon);
#pragma unroll
  for (int k = 0; k < quads; ++k) {
    const int i = int(threadIdx.x) + k * n_threads;
    if (i >= n_quads) continue;
    static_cast<uint2*>(p.out)[row + size_t(i)] =
        make_uint2(pack<T>(own[k].x * scale * factor[k].x, own[k].y * scale * factor[k].y),
                   pack<T>(own[k].z * scale * factor[k].z, own[k].w * scale * factor[k].w));
  }
}

template <class T>
auto kernel_of(int quads) {
  return quads == 1 ? norm<T, 1> : quads == 2 ? norm<T, 2> : norm<T, 4>;
}

}  // namespace

void run(const Params& p, const Launch& launch) {
  constexpr const char* kernel = "rms_norm";
  require(p.n_rows >= 0, kernel, "n_rows", p.n_rows, "at least 0");
  if (p.n_rows == 0) return;
  check_rows(kernel, p.n, p.epsilon, p.type);
  require_aligned(kernel, "x", p.x, 16);
  if (p.y) require_aligned(kernel, "y", p.y, 16);
  require_aligned(kernel, "weight", p.weight, 16);
  require_aligned(kernel, "out", p.out, 16);
  const RowBlock block(p.n);
  launch_kernel(kernel, p.type == Type::bf16 ? kernel_of<bf16>(block.quads) : kernel_of<f16>(block.quads),
                dim3(unsigned(p.n_rows)), block.threads, 0, launch, p);
}

}  // namespace deltacal::kernels::cuda::rms_norm
