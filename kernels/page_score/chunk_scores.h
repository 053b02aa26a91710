// What passes between the driver of page scores and its inner loops.
#pragma once
#include <cstddef>

#include "kernels/page_score/page_score.h"
#include "kernels/paged.h"

namespace deltacal::kernels::page_score {

// The softmax of one chunk under its own maximum: one key/value head, all rows of a tile.
struct ChunkScores {
  const float* q = nullptr;  // [head_dim, n_queries] times scale * log2(e)
  int n_queries = 0, per_row = 0;
  const int* last_keys = nullptr;  // [rows] keys of the row's last page
  int head_dim = 0;
  KvType type = KvType::f32;
  float* p = nullptr;    // [n_queries, chunk_keys] out: 2^(logit - max)
  float* max = nullptr;  // [n_queries] out
  float* sum = nullptr;  // [n_queries] out
};

// One row and chunk, all heads: alpha = p * factor.
struct RowChunk {
  const float* p = nullptr;  // [group, chunk_keys], the next key/value head p_stride further
  size_t p_stride = 0;
  const float* factor = nullptr;  // [group], the next key/value head factor_stride further
  size_t factor_stride = 0;
  int n_pages = 0, group = 0, n_kv_heads = 0;
  Page page = Page::sum;
};

struct PageSums {
  float* score = nullptr;       // [n_pages]
  float* mass = nullptr;        // [n_pages], optional
  float* group_mass = nullptr;  // [n_kv_heads, n_pages], optional, rows group_stride apart
  size_t group_stride = 0;
};

}  // namespace deltacal::kernels::page_score
