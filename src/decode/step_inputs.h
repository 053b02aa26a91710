// What the host gives a step that is captured as a CUDA graph (step_graph.h): tokens, positions and the page
// table, uploaded where the graph reads them. Included only by src/decode/*.cpp that are built with CUDA.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>

#include "decode/kv_cache.h"
#include "kernels/cuda/graph.h"

namespace deltacal::decode {

class StepInputs {
 public:
  // Of rows that are all idle.
  StepInputs(KvCache&, int n_rows, int n_vocab);

  // Reserves the rows' pages and enqueues the upload. token, position [n_rows]; position -1: the row is idle.
  // bad_input for other lengths, a token outside the vocabulary, a position beyond the cache.
  void take(std::span<const int32_t> token, std::span<const int32_t> position, cudaStream_t);

  // In the device's memory, the same for every step.
  at::Tensor tokens() const { return numbers_.narrow(0, 0, n_rows_); }  // [n_rows]
  const int32_t* position() const { return at(1); }                     // [n_rows]
  const int32_t* length() const { return at(2); }                       // [n_rows] 0: the row is idle
  const int32_t* page_table() const { return at(3); }                   // [n_rows, max_pages]

 private:
  const int32_t* at(int which) const {
    return numbers_.const_data_ptr<int32_t>() + size_t(which) * size_t(n_rows_);
  }

  KvCache& cache_;
  int n_rows_, n_vocab_;
  at::Tensor numbers_;  // in one array, for one upload
  // Two, so that a step's can be filled while the last one's are read.
  static constexpr int n_slots = 2;
  struct Slot {
    std::unique_ptr<kernels::cuda::PinnedInts> numbers;
    kernels::cuda::Event uploaded = {};
  };
  Slot slots_[n_slots] = {};
  long long n_steps_ = 0, table_version_ = -1;  // of the cache's table as uploaded last
};

}  // namespace deltacal::decode
