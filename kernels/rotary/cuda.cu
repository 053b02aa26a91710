// A block takes one row, whose sines and cosines it computes once, a warp a head at a time. A lane holds
// pairs of neighbouring dimensions: 4-byte accesses, whole lines a warp. Everything of a head is read before
// any of it is written. Bound by memory (4 bytes a number).
#include "kernels/append_kv/turn.cuh"
#include "kernels/rotary/cuda.h"

namespace deltacal::kernels::cuda::rotary {
namespace {

constexpr int warps = 8, max_head_dim = 256;

template <class T>
__global__ void __launch_bounds__(warps * 32) rotate(const Params p) {
  __shared__ float2 turn[max_head_dim / 2];
  wait_for_previous();
  let_next_start();
  const int r = int(blockIdx.x), lane = int(threadIdx.x) % 32;
  const int position = p.first_position + r;
  append_kv::angles(p, p.backward ? -position : position, turn);
  __syncthreads();
  for (int head = int(threadIdx.x) / 32; head < p.n_heads; head += warps) {
    const T* from = static_cast<const T*>(p.x) + r * p.x_stride + head * p.head_dim;
    const float* bias = p.bias ? p.bias + head * p.head_dim : nullptr;
    uint32_t result[max_head_dim / 64];
#pragma unroll
    for (int i = 0; i < max_head_dim / 64; ++i) {
      const int d = 2 * (lane + 32 * i);
      if (d < p.head_dim)
        result[i] =
            pack<T>(append_kv::turned(p, turn, from, bias, d), append_kv::turned(p, turn, from, bias, d + 1));
    }
    __syncwarp();
    T* to = static_cast<T*>(p.out) + r * p.out_stride + head * p.head_dim;
#pragma unroll
    for (int i = 0; i < max_head_dim / 64; ++i) {
      const int d = 2 * (lane + 32 * i);
      if (d < p.head_dim) *reinterpret_cast<uint32_t*>(to + d) = result[i];
    }
  }
}

void check(const Params& p) {
  constexpr const char* kernel = "rotary";
  require(p.n_heads >= 1, kernel, "n_heads", p.n_heads, "at least 1");
  require(p.head_dim >= 2 && p.head_dim <= max_head_dim && p.head_dim % 2 == 0, kernel, "head_dim",
          p.head_dim, "an even number, 2 to " + std::to_string(max_head_dim));
  require_type(kernel, "type", p.type);
  append_kv::check_turn(kernel, p, p.head_dim);
  require(p.first_position >= 0, kernel, "first_position", p.first_position, "at least 0");
  require_aligned(kernel, "x", p.x, 4);
  require_aligned(kernel, "out", p.out, 4);
  require(p.bias == nullptr || !p.backward, kernel, "bias", "given", "none where backward");
  require(p.x_stride % 2 == 0, kernel, "x_stride", p.x_stride, "an even number");
  require(p.out_stride % 2 == 0, kernel, "out_stride", p.out_stride, "an even number");
}

}  // namespace

void run(const Params& params, const Launch& launch) {
  require(params.n_rows >= 0, "rotary", "n_rows", params.n_rows, "at least 0");
  if (params.n_rows == 0) return;
  check(params);
  Params p = params;
  const long row = long(p.n_heads) * p.head_dim;
  if (p.x_stride == 0) p.x_stride = row;
  if (p.out_stride == 0) p.out_stride = row;
  launch_kernel("rotary", p.type == Type::bf16 ? rotate<bf16> : rotate<f16>, dim3(unsigned(p.n_rows)),
                warps * 32, 0, launch, p);
}

}  // namespace deltacal::kernels::cuda::rotary
