// What is reckoned of a CUDA device's memory (decode/step_memory.h) is held against what LibTorch's allocator
// gives out, and work is run where no more is there.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "decode/policy.h"
#include "model/model.h"

namespace deltacal::test {

constexpr size_t mib = size_t{1} << 20;
// LibTorch rounds each of its arrays up, and cuBLAS and the linear kernels have workspaces: not counted one
// by one, but by the margin of 1 GiB that is asked for beside all that is.
constexpr size_t small_things = 128 * mib;

// Bytes that the allocator gives out beyond those at the time it was made.
class TakenMemory {
 public:
  TakenMemory();
  size_t most() const;  // at one time

 private:
  int64_t before_;
};

// All of the device's memory but `left` bytes, taken by something else.
class OtherMemory {
 public:
  explicit OtherMemory(size_t left);
  bool fits() const { return held_ != nullptr; }  // false: no more than that is free, too little for the test

 private:
  std::shared_ptr<void> held_;
};

// Random bf16 weights of a known shape with fewer layers: but for caches and activations what a pass takes
// does not depend on them.
model::Model four_layers(const char* shape);
// Full attention, a Δ-layer and two layers on its lists of k pages.
decode::Policy delta_of_four(int k_pages);
std::vector<int32_t> random_ids(const model::Model&, int n);

}  // namespace deltacal::test
