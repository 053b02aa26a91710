// Paged KV cache: a pool of pages of 16 positions, shared by all layers and sequences. The whole cache stays in memory
// under every policy; DELTA changes what is read.
#pragma once
#include <cstddef>
#include <memory>
#include <vector>

#include "kernels/paged.h"
#include "model/model.h"

namespace deltacal::decode {

class KvCache {
 public:
  // Room for `n_sequences` sequences of `max_positions` positions each, in the model's dtype. Pages are committed by the operating system
  // when they are first written. Throws failure when the memory cannot be had.
  KvCache(const model::Model&, int n_sequences, int max_positions);

  // Makes positions 0..length-1 of a sequence addressable; bad_input beyond max_positions.
  void reserve(int sequence, int length);
  // Gives the pages of a sequence back; its next position is 0.
  void release(int sequence);

  kernels::PagedKv layer(int layer);
  int max_pages() const { return max_pages_; }  // of one sequence
  int max_positions() const { return max_positions_; }
  static size_t bytes_per_position(const ModelInfo&, model::Dtype);  // over all layers, keys and values

 private:
  struct Free { void operator()(void* p) const; };
  using Memory = std::unique_ptr<void, Free>;

  kernels::KvType type_;
  int n_layers_, n_kv_heads_, head_dim_, max_positions_, max_pages_, n_pages_;
  std::vector<Memory> keys_, values_;   // [n_layers] of [n_pages, n_kv_heads, head_dim x page_size]
  std::vector<int32_t> page_table_;     // [n_sequences, max_pages]
  std::vector<int> pages_held_;         // [n_sequences]
  std::vector<int32_t> free_;           // physical pages nobody holds, the next one last
};

}  // namespace deltacal::decode
