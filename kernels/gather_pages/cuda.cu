// A block takes one page of one key/value head, a thread 16 bytes at a time of keys and values: a copy, bound
// by memory.
#include "kernels/cuda/device.cuh"
#include "kernels/gather_pages/cuda.h"

namespace deltacal::kernels::cuda::gather_pages {
namespace {

constexpr int n_threads = 128;

__global__ void __launch_bounds__(n_threads) gather(const Params p) {
  wait_for_previous();
  let_next_start();
  const int dim = p.kv.head_dim, chunks = dim / chunk_elements, n_kv = p.kv.n_kv_heads;
  const int first_key = int(blockIdx.x) * page_size, g = int(blockIdx.y);
  const int page = p.kv.page_table[size_t(p.sequence) * size_t(p.kv.max_pages) + size_t(blockIdx.x)];
  const size_t block = block_offset(dim, page * n_kv + g) / chunk_elements;
  const uint4 *keys = static_cast<const uint4*>(p.kv.keys) + block,
              *values = static_cast<const uint4*>(p.kv.values) + block;
  const int n = min(page_size, p.n_keys - first_key) * chunks;
  for (int i = int(threadIdx.x); i < n; i += n_threads) {
    const int token = i / chunks, chunk = i % chunks;
    const int from = token * chunks + (chunk ^ swizzle(dim, token));
    const size_t to = (size_t(first_key + token) * size_t(n_kv) + size_t(g)) * size_t(chunks) + size_t(chunk);
    static_cast<uint4*>(p.keys)[to] = keys[from];
    static_cast<uint4*>(p.values)[to] = values[from];
  }
}

void check(const Params& p) {
  constexpr const char* kernel = "gather_pages";
  check_cache(kernel, p.kv, p.kv.n_kv_heads);
  require(p.sequence >= 0, kernel, "sequence", p.sequence, "at least 0");
  require(p.n_keys <= p.kv.max_pages * page_size, kernel, "n_keys", p.n_keys,
          "at most the positions of a sequence, " + std::to_string(p.kv.max_pages * page_size));
  require_aligned(kernel, "keys", p.keys, 16);
  require_aligned(kernel, "values", p.values, 16);
}

}  // namespace

void run(const Params& p, const Launch& launch) {
  require(p.n_keys >= 0, "gather_pages", "n_keys", p.n_keys, "at least 0");
  if (p.n_keys == 0) return;
  check(p);
  launch_kernel("gather_pages", gather, dim3(unsigned(pages_for(p.n_keys)), unsigned(p.kv.n_kv_heads)),
                n_threads, 0, launch, p);
}

}  // namespace deltacal::kernels::cuda::gather_pages
