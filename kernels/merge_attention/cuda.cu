// A block takes one row, a thread eight dimensions at a time; computed in float. Bound by memory.
#include "kernels/cuda/device.cuh"
#include "kernels/merge_attention/cuda.h"

namespace deltacal::kernels::cuda::merge_attention {
namespace {

constexpr int n_threads = 256;

template <class T>
__device__ __forceinline__ uint32_t merged(uint32_t a, uint32_t b, float of_a, float of_b) {
  const float2 x = unpack<T>(a), y = unpack<T>(b);
  return pack<T>(of_a * x.x + of_b * y.x, of_a * x.y + of_b * y.y);
}

template <class T>
__global__ void __launch_bounds__(n_threads) merge(const Params p) {
  wait_for_previous();
  let_next_start();
  const int chunks = p.head_dim / chunk_elements, r = int(blockIdx.x);
  const size_t row = size_t(r) * size_t(p.n_heads) * size_t(chunks);
  const uint4 *a = static_cast<const uint4*>(p.a) + row, *b = static_cast<const uint4*>(p.b) + row;
  for (int i = int(threadIdx.x); i < p.n_heads * chunks; i += n_threads) {
    const int h = i / chunks;
    const size_t at = size_t(h) * size_t(p.n_rows) + size_t(r);
    const float lse_a = p.lse_a[at], lse_b = p.lse_b[at], top = max_nan(lse_a, lse_b);
    const float exp_a = exp2_fast((lse_a - top) * log2_e), exp_b = exp2_fast((lse_b - top) * log2_e);
    const float sum = exp_a + exp_b, of_a = exp_a / sum, of_b = exp_b / sum;
    const uint4 x = a[i], y = b[i];
    static_cast<uint4*>(p.out)[row + size_t(i)] =
        make_uint4(merged<T>(x.x, y.x, of_a, of_b), merged<T>(x.y, y.y, of_a, of_b),
                   merged<T>(x.z, y.z, of_a, of_b), merged<T>(x.w, y.w, of_a, of_b));
    if (i % chunks == 0) p.lse[size_t(r) * size_t(p.n_heads) + size_t(h)] = top + logf(sum);
  }
}

void check(const Params& p) {
  constexpr const char* kernel = "merge_attention";
  require(p.n_heads >= 1, kernel, "n_heads", p.n_heads, "at least 1");
  require(p.head_dim >= 8 && p.head_dim % 8 == 0, kernel, "head_dim", p.head_dim, "a multiple of 8");
  require_type(kernel, "type", p.type);
  require_aligned(kernel, "a", p.a, 16);
  require_aligned(kernel, "b", p.b, 16);
  require_aligned(kernel, "out", p.out, 16);
  require_aligned(kernel, "lse_a", p.lse_a, 4);
  require_aligned(kernel, "lse_b", p.lse_b, 4);
  require_aligned(kernel, "lse", p.lse, 4);
}

}  // namespace

void run(const Params& p, const Launch& launch) {
  require(p.n_rows >= 0, "merge_attention", "n_rows", p.n_rows, "at least 0");
  if (p.n_rows == 0) return;
  check(p);
  launch_kernel("merge_attention", p.type == Type::bf16 ? merge<bf16> : merge<f16>, dim3(unsigned(p.n_rows)),
                n_threads, 0, launch, p);
}

}  // namespace deltacal::kernels::cuda::merge_attention
