// The paged KV cache in device memory, as the CUDA kernels read it. Its layout differs from the CPU's: only
// kernels/ knows it, everything else goes through append_kv.
//
// Physical page p of key/value head g is one block of 16 tokens, [16, head_dim] elements, in each of the two
// arrays, beginning at element (p * n_kv_heads + g) * 16 * head_dim. One bulk copy (4 KB at head_dim 128)
// moves it to shared memory as it is. Within it the 16-byte chunks of each token's row are stored permuted,
// chunk c of token i at place c ^ swizzle(head_dim, i), so that the eight rows that ldmatrix reads at once,
// the same chunk of eight tokens, lie in different banks of shared memory.
#pragma once
#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define DELTACAL_HOST_DEVICE __host__ __device__
#else
#define DELTACAL_HOST_DEVICE
#endif

namespace deltacal::kernels::cuda {

DELTACAL_HOST_DEVICE constexpr int divide_up(int a, int b) {
  return (a + b - 1) / b;
}

constexpr int page_size = 16;  // core/pages.h, which is C++20; launch.cpp holds one against the other
DELTACAL_HOST_DEVICE constexpr int pages_for(int n_positions) {
  return divide_up(n_positions, page_size);
}

enum class Type { bf16, f16 };  // of queries, keys, values and outputs alike

// Pages of one layer. What lies in a page past a row's length is never part of that row's result, whatever
// its bits.
struct PagedKv {
  Type type = Type::bf16;
  int n_kv_heads = 0;
  int head_dim = 0;                     // 64, 96, 128 or 256
  int n_pages = 0;                      // allocated
  void* keys = nullptr;                 // [n_pages, n_kv_heads, 16, head_dim], swizzled; 16-byte aligned
  void* values = nullptr;               // [n_pages, n_kv_heads, 16, head_dim], swizzled; 16-byte aligned
  const int32_t* page_table = nullptr;  // [n_sequences, max_pages] physical page of each logical page
  int max_pages = 0;                    // row length of page_table
};

constexpr int chunk_elements = 8;  // 16 bytes of bf16 or f16

constexpr bool has_head_dim(int head_dim) {
  return head_dim == 64 || head_dim == 96 || head_dim == 128 || head_dim == 256;
}

// What the chunk numbers of token `token` of a page are combined with. Rows of 8, 16 or 32 chunks begin in
// the same bank: eight masks. Rows of 12 begin in two banks, four chunks apart, by turns: four masks, each
// for two neighbours, which stay within aligned groups of four chunks.
DELTACAL_HOST_DEVICE constexpr int swizzle(int head_dim, int token) {
  return head_dim % 64 == 0 ? token & 7 : (token >> 1) & 3;
}

// Element of dimension d of token `token` within its block.
DELTACAL_HOST_DEVICE constexpr int block_element(int head_dim, int token, int d) {
  return token * head_dim + ((d / chunk_elements) ^ swizzle(head_dim, token)) * chunk_elements +
         d % chunk_elements;
}

// First element of a block; `block` is physical page * n_kv_heads + key/value head.
DELTACAL_HOST_DEVICE constexpr size_t block_offset(int head_dim, int block) {
  return size_t(block) * size_t(page_size) * size_t(head_dim);
}

}  // namespace deltacal::kernels::cuda
