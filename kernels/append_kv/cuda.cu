// A block takes one row and eight of its heads (queries, then keys, then values), a warp a head. Each block
// computes the sines and cosines of its row once, looks up its page and asks for the bias, which no cache
// holds after a layer, while the projection before still runs. A lane holds pairs of neighbouring dimensions:
// 4-byte accesses, whole lines a warp. Everything of a head is read before any of it is written, so that
// queries, keys and values may be turned in place.
#include "kernels/append_kv/turn.cuh"
#include "kernels/cuda/copy.cuh"

namespace deltacal::kernels::cuda::append_kv {
namespace {

constexpr int warps = 8, max_head_dim = 256;

template <class T>
__global__ void __launch_bounds__(warps * 32) append(const Params p) {
  __shared__ float2 turn[max_head_dim / 2];
  const int r = int(blockIdx.x), position = p.position[r];
  const int dim = p.kv.head_dim, n_kv = p.kv.n_kv_heads, lane = int(threadIdx.x) % 32;
  const int head = int(blockIdx.y) * warps + int(threadIdx.x) / 32;
  const bool is_q = head < p.n_heads, is_k = !is_q && head < p.n_heads + n_kv;
  const int g = is_q ? head : is_k ? head - p.n_heads : head - p.n_heads - n_kv;
  int page = 0;
  if (position >= 0) {
    angles(p, position, turn);
    const int sequence = p.sequence ? p.sequence[r] : r;
    page = p.kv.page_table[size_t(sequence) * size_t(p.kv.max_pages) + size_t(position / page_size)];
  }
  const float* bias = p.bias && head < p.n_heads + 2 * n_kv ? p.bias + head * dim : nullptr;
  if (bias && 32 * lane < dim) prefetch_line(bias + 32 * lane);
  wait_for_previous();
  let_next_start();
  __syncthreads();
  if (position < 0 || head >= p.n_heads + 2 * n_kv) return;

  const T* from = is_q   ? static_cast<const T*>(p.q) + r * p.q_stride
                  : is_k ? static_cast<const T*>(p.k) + r * p.k_stride
                         : static_cast<const T*>(p.v) + r * p.v_stride;
  from += g * dim;

  uint32_t result[max_head_dim / 64];
#pragma unroll
  for (int i = 0; i < max_head_dim / 64; ++i) {
    const int d = 2 * (lane + 32 * i);
    if (d >= dim) continue;
    result[i] = is_q || is_k ? pack<T>(turned(p, turn, from, bias, d), turned(p, turn, from, bias, d + 1))
                : bias       ? pack<T>(biased(from, bias, d), biased(from, bias, d + 1))
                             : *reinterpret_cast<const uint32_t*>(from + d);
  }
  __syncwarp();

  const auto write = [&](T* to, auto place) {
#pragma unroll
    for (int i = 0; i < max_head_dim / 64; ++i) {
      const int d = 2 * (lane + 32 * i);
      if (d < dim) *reinterpret_cast<uint32_t*>(to + place(d)) = result[i];
    }
  };
  if (is_q) {
    write(static_cast<T*>(p.q_out) + r * p.q_out_stride + g * dim, [](int d) { return d; });
    return;
  }
  write(static_cast<T*>(is_k ? p.kv.keys : p.kv.values) + block_offset(dim, page * n_kv + g),
        [&](int d) { return block_element(dim, position % page_size, d); });
}

void check(const Params& p) {
  constexpr const char* kernel = "append_kv";
  check_cache(kernel, p.kv, p.n_heads);
  check_turn(kernel, p, p.kv.head_dim);
  require_pointer(kernel, "position", p.position);
  require_aligned(kernel, "q", p.q, 4);
  require_aligned(kernel, "k", p.k, 4);
  require_aligned(kernel, "v", p.v, 4);
  require_aligned(kernel, "q_out", p.q_out, 4);
  if (p.bias) require_aligned(kernel, "bias", p.bias, 4);
  require(p.q_stride % 2 == 0, kernel, "q_stride", p.q_stride, "an even number");
  require(p.k_stride % 2 == 0, kernel, "k_stride", p.k_stride, "an even number");
  require(p.v_stride % 2 == 0, kernel, "v_stride", p.v_stride, "an even number");
  require(p.q_out_stride % 2 == 0, kernel, "q_out_stride", p.q_out_stride, "an even number");
}

}  // namespace

void run(const Params& params, const Launch& launch) {
  require(params.n_rows >= 0, "append_kv", "n_rows", params.n_rows, "at least 0");
  if (params.n_rows == 0) return;
  check(params);
  Params p = params;
  const long q_row = long(p.n_heads) * p.kv.head_dim, kv_row = long(p.kv.n_kv_heads) * p.kv.head_dim;
  if (p.q_stride == 0) p.q_stride = q_row;
  if (p.k_stride == 0) p.k_stride = kv_row;
  if (p.v_stride == 0) p.v_stride = kv_row;
  if (p.q_out_stride == 0) p.q_out_stride = q_row;
  const int heads = p.n_heads + 2 * p.kv.n_kv_heads;
  const dim3 grid(unsigned(p.n_rows), unsigned(divide_up(heads, warps)));
  launch_kernel("append_kv", p.kv.type == Type::bf16 ? append<bf16> : append<f16>, grid, warps * 32, 0,
                launch, p);
}

}  // namespace deltacal::kernels::cuda::append_kv
