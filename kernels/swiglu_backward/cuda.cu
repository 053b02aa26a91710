// Eight numbers of dy a thread, 16-byte accesses. Bound by memory (10 bytes a number).
#include "kernels/cuda/device.cuh"
#include "kernels/swiglu_backward/cuda.h"

namespace deltacal::kernels::cuda::swiglu_backward {
namespace {

constexpr int n_threads = 256;

struct Gradients {
  float gate, up;
};
__device__ __forceinline__ Gradients gradients(float gate, float up, float dy) {
  const float s = 1 / (1 + exp2_fast(-log2_e * gate));
  return {dy * up * s * (1 + gate * (1 - s)), dy * gate * s};
}

struct Pairs {
  uint32_t gate, up;
};
template <class T>
__device__ __forceinline__ Pairs of_pair(uint32_t gate, uint32_t up, uint32_t dy) {
  const float2 g = unpack<T>(gate), u = unpack<T>(up), d = unpack<T>(dy);
  const Gradients first = gradients(g.x, u.x, d.x), second = gradients(g.y, u.y, d.y);
  return {pack<T>(first.gate, second.gate), pack<T>(first.up, second.up)};
}

template <class T>
__global__ void __launch_bounds__(n_threads) backward(const Params p) {
  wait_for_previous();
  let_next_start();
  const int n_chunks = p.n / chunk_elements, i = int(blockIdx.y) * n_threads + int(threadIdx.x);
  if (i >= n_chunks) return;
  const size_t row = size_t(blockIdx.x) * size_t(n_chunks), at = 2 * row + size_t(i);
  const uint4* from = static_cast<const uint4*>(p.gate_up) + at;
  const uint4 g = from[0], u = from[n_chunks], d = __ldcs(static_cast<const uint4*>(p.dy) + row + i);
  const Pairs a = of_pair<T>(g.x, u.x, d.x), b = of_pair<T>(g.y, u.y, d.y), c = of_pair<T>(g.z, u.z, d.z),
              e = of_pair<T>(g.w, u.w, d.w);
  uint4* to = static_cast<uint4*>(p.d_gate_up) + at;
  to[0] = make_uint4(a.gate, b.gate, c.gate, e.gate);
  to[n_chunks] = make_uint4(a.up, b.up, c.up, e.up);
}

}  // namespace

void run(const Params& p, const Launch& launch) {
  constexpr const char* kernel = "swiglu_backward";
  require(p.n_rows >= 0, kernel, "n_rows", p.n_rows, "at least 0");
  if (p.n_rows == 0) return;
  constexpr int a_block = chunk_elements * n_threads;
  require(p.n >= 8 && p.n % 8 == 0 && p.n <= 65535 * a_block, kernel, "n", p.n,
          "a multiple of 8, at least 8");
  require_type(kernel, "type", p.type);
  require_aligned(kernel, "gate_up", p.gate_up, 16);
  require_aligned(kernel, "dy", p.dy, 16);
  require_aligned(kernel, "d_gate_up", p.d_gate_up, 16);
  const dim3 grid(unsigned(p.n_rows), unsigned(divide_up(p.n, a_block)));
  launch_kernel(kernel, p.type == Type::bf16 ? backward<bf16> : backward<f16>, grid, n_threads, 0, launch, p);
}

}  // namespace deltacal::kernels::cuda::swiglu_backward
