// Paged KV cache: a pool of pages of 16 positions, shared by all layers and sequences, in the memory of the
// model's device. The whole cache stays there under every policy; DELTA changes what is read.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/paged.h"
#include "model/model.h"

namespace deltacal::decode {

class KvCache {
 public:
  // Room for `n_sequences` sequences of `max_positions` positions each, in the model's dtype. In host memory,
  // pages are committed by the operating system when they are first written. Throws failure when the memory
  // cannot be had.
  KvCache(const model::Model&, int n_sequences, int max_positions);

  // Makes positions 0..length-1 of a sequence addressable; bad_input beyond max_positions.
  void reserve(int sequence, int length);
  // Gives the pages of a sequence back; its next position is 0.
  void release(int sequence);

  // Normal random numbers for all keys and values, as if every position had been written: for timings. On a
  // CUDA device.
  void fill_random(uint64_t seed);

  kernels::PagedKv layer(int layer);  // in host memory alone
  // In the layout of the device's kernels: [n_pages, n_kv_heads, head_dim x page_size].
  void* keys(int layer) { return keys_[layer].get(); }
  void* values(int layer) { return values_[layer].get(); }
  std::span<const int32_t> page_table() const { return page_table_; }  // [n_sequences, max_pages]
  long long table_version() const { return table_version_; }           // changes when page_table() does
  int n_sequences() const { return static_cast<int>(pages_held_.size()); }
  int n_pages() const { return n_pages_; }
  int max_pages() const { return max_pages_; }  // of one sequence
  int max_positions() const { return max_positions_; }
  static size_t bytes_per_position(const ModelInfo&, model::Dtype);  // over all layers, keys and values
  // What LibTorch's allocator takes of a CUDA device's memory for it, in bf16.
  static size_t device_bytes(const ModelInfo&, int n_sequences, int max_positions);

 private:
  using Memory = std::shared_ptr<void>;

  kernels::KvType type_;
  int n_layers_, n_kv_heads_, head_dim_, max_positions_, max_pages_, n_pages_;
  bool on_device_;
  std::vector<Memory> keys_, values_;   // [n_layers] of [n_pages, n_kv_heads, head_dim x page_size]
  std::vector<int32_t> page_table_;     // [n_sequences, max_pages]
  long long table_version_ = 0;
  std::vector<int> pages_held_;         // [n_sequences]
  std::vector<int32_t> free_;           // physical pages nobody holds, the next one last
};

}  // namespace deltacal::decode
