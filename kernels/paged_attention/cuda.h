// paged_attention.h on a CUDA device, for decoding: attention of rows over the paged cache, over all pages a
// row sees or over the first pages of its ranked list. One launch, captured by CUDA graphs as it is: how work
// is spread over the blocks is decided on the device from the lengths that lie there.
//
// Optionally the same pass keeps what the page score needs (page_score/cuda.h).
#pragma once
#include "kernels/cuda/launch.h"

namespace deltacal::kernels::cuda {

// What page_score needs of a Δ-layer's logits, kept by paged attention. Without reading the keys again it
// takes something of every key and head: which head is the largest at a position is only known with the final
// sums of all heads. Writing it is most of what a Δ-layer costs beyond attention, so it is 8 bits: the square
// roots of probabilities, relative to the largest of their page and head, which is kept in full. Equal steps
// of roots are small where probabilities are small and yet fine at the largest: score and mass are off by
// 2^-7 of themselves at most and by about 2^-10 (root mean square) where keys differ as they usually do, less
// than queries and keys rounded to bf16 leave; the largest key is not off at all.
struct PageLogits {
  int max_pages = 0;  // row length, >= pages of the longest row
  // [n_rows, n_kv_heads, max_pages] records of record_bytes(group) bytes each; 32-byte aligned. A record has
  // what one page's keys are to the `group` query heads of the key/value head:
  //   [group, 16] u8   root_steps * 2^((logit * log2(e) - maximum) / 2), rounded; the 16 keys in an order of
  //                    their own, the same for all heads; 0 past the row's length
  //   [group]     f32  maximum
  void* records = nullptr;
  float* lse2 = nullptr;  // [n_rows, n_heads] log2 of the softmax's denominator
};

constexpr float root_steps = 255;  // the largest root, in a byte

// Whole sectors of memory, so that a page is written and read without touching its neighbours.
DELTACAL_HOST_DEVICE constexpr int record_bytes(int group) {
  return divide_up(group * (page_size + 4), 32) * 32;
}
// Of PageLogits::records.
DELTACAL_HOST_DEVICE constexpr size_t records_bytes(int n_rows, int n_heads, int n_kv_heads, int max_pages) {
  return size_t(n_rows) * size_t(n_kv_heads) * size_t(max_pages) * size_t(record_bytes(n_heads / n_kv_heads));
}

namespace paged_attention {

struct Params {
  int n_rows = 0, n_heads = 0;
  float scale = 0;          // 1 / sqrt(head_dim) unless the model says otherwise
  const void* q = nullptr;  // [n_rows, n_heads, head_dim], kv.type; 16-byte aligned
  long q_stride = 0;        // elements from row to row, a multiple of 8; 0: no gap
  PagedKv kv;
  const int32_t* sequence = nullptr;  // [n_rows] row of the page table; null: row r is sequence r
  const int32_t* length = nullptr;    // [n_rows] keys each row sees, at most 16 kv.max_pages. 0: the row is
                                      // idle, nothing of it is read or written
  // [n_rows, list_stride] logical pages, ranked, none twice; null: all rows attend to all
  const int32_t* list = nullptr;
  int list_stride = 0;
  // [n_rows] pages of each list, 1 or more, or -1 for all; null: k_pages for every row
  const int32_t* list_length = nullptr;
  int k_pages = -1;      // a row that sees no more pages attends to all, in ascending order
  void* out = nullptr;   // [n_rows, n_heads, head_dim], kv.type
  float* lse = nullptr;  // [n_rows, n_heads] log of the softmax's denominator, optional
  PageLogits logits;     // optional (logits.records null), for rows that attend to all
  // Pages are asked for while the kernel before this one in the stream still runs (with Launch::overlap, on
  // sm_90). True only if that kernel waits for those before it before it lets the next start (append_kv,
  // page_score, select_pages and this one do; rms_norm and linear do not), and if it writes nothing of
  // sequence, length, list, list_length and the page table, and of keys and values nothing but in the last
  // page that a row sees: as append_kv does with one row a sequence. q and all other arrays may be its work.
  bool early = false;
  // workspace_bytes(); 256-byte aligned; zero before its first use. Calls of one stream and head_dim may
  // share it: each leaves it ready for the next
  void* workspace = nullptr;
};

// For calls of up to n_rows rows on the current device.
size_t workspace_bytes(int n_rows, int n_heads, const PagedKv&);

// Throws Error naming the field (shapes and pointers: what lies in device memory is not looked at).
void run(const Params&, const Launch&);

}  // namespace paged_attention
}  // namespace deltacal::kernels::cuda
