// Eight numbers a thread, 16-byte accesses; small blocks, so that one row spreads over many SMs. Reads and
// writes 6 bytes a number: bound by memory, for few rows by latency.
#include "kernels/swiglu/cuda.h"
#include "kernels/swiglu/gate.cuh"

namespace deltacal::kernels::cuda::swiglu {
namespace {

constexpr int n_threads = 128;

template <class T>
__device__ __forceinline__ uint32_t gated_pair(uint32_t gate, uint32_t up) {
  const float2 g = unpack<T>(gate), u = unpack<T>(up);
  return pack<T>(gated(g.x, u.x), gated(g.y, u.y));
}

template <class T>
__global__ void __launch_bounds__(n_threads) gate(const Params p) {
  wait_for_previous();
  let_next_start();
  const int n_chunks = p.n / chunk_elements, i = int(blockIdx.y) * n_threads + int(threadIdx.x);
  if (i >= n_chunks) return;
  const size_t row = size_t(blockIdx.x) * size_t(n_chunks);
  const uint4* from = static_cast<const uint4*>(p.gate_up) + 2 * row + size_t(i);
  const uint4 g = __ldcs(from), u = __ldcs(from + n_chunks);
  static_cast<uint4*>(p.out)[row + size_t(i)] = make_uint4(gated_pair<T>(g.x, u.x), gated_pair<T>(g.y, u.y),
                                                           gated_pair<T>(g.z, u.z), gated_pair<T>(g.w, u.w));
}

}  // namespace

void run(const Params& p, const Launch& launch) {
  constexpr const char* kernel = "swiglu";
  require(p.n_rows >= 0, kernel, "n_rows", p.n_rows, "at least 0");
  if (p.n_rows == 0) return;
  constexpr int a_block = chunk_elements * n_threads;
  require(p.n >= 8 && p.n % 8 == 0 && p.n <= 65535 * a_block, kernel, "n", p.n,
          "a multiple of 8, at least 8");
  require_type(kernel, "type", p.type);
  require_aligned(kernel, "gate_up", p.gate_up, 16);
  require_aligned(kernel, "out", p.out, 16);
  const dim3 grid(unsigned(p.n_rows), unsigned(divide_up(p.n, a_block)));
  launch_kernel(kernel, p.type == Type::bf16 ? gate<bf16> : gate<f16>, grid, n_threads, 0, launch, p);
}

}  // namespace deltacal::kernels::cuda::swiglu
