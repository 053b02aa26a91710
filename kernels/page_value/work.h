// What passes between the driver of page values and its inner loops.
#pragma once
#include <cstddef>

#include "kernels/paged.h"

namespace deltacal::kernels::page_value {

// One chunk, key/value head and tile of rows. A query is a row and a head of the group.
struct ChunkValues {
  const float* q = nullptr;  // [head_dim, n_queries] times scale * log2(e)
  int n_queries = 0, per_row = 0;
  const int* last_keys = nullptr;  // [rows] keys of the row's last page
  int head_dim = 0;
  KvType type = KvType::f32;
  int n_gradients = 0;
  const float* gradient = nullptr;  // [n_gradients, n_queries, head_dim]
  float* p = nullptr;               // [n_queries, chunk_keys] scratch
  float* page_out = nullptr;        // [n_queries, head_dim] scratch
  float* max = nullptr;             // [n_queries] out: the chunk's largest logit, in powers of 2
  float* sum = nullptr;             // [n_queries] out: of 2^(logit - max)
  // Out, under the chunk's own maximum; the next query is page_stride further.
  float* mass = nullptr;   // [n_queries, chunk_pages]
  float* value = nullptr;  // [n_gradients, n_queries, chunk_pages], the next gradient gradient_stride further
  size_t page_stride = 0, gradient_stride = 0;
};

}  // namespace deltacal::kernels::page_value
