// What the decoder leaves to a device: the paged cache, attention over it and the ranking of its pages.
// Everything between is LibTorch's, on either device. Included only by src/decode/*.cpp.
//
// N layers, H query heads, G key/value heads, d head dimension. Tensors lie in the device's memory, queries
// and outputs in its type: f32 on the CPU, the cache's on a CUDA device.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>

#include "decode/decoder.h"
#include "decode/scored_rows.h"

namespace deltacal::decode {

// The pages that each row attends to.
struct Lists {
  at::Tensor pages;                 // [n_rows, stride] int32, ranked; undefined: all pages in every row
  std::span<const int32_t> length;  // [n_rows] in host memory; -1: all pages
  bool all() const { return !pages.defined(); }
};

// The rows of a pass, in host memory.
struct PassRows {
  std::span<const int32_t> position;   // [n_rows]
  std::span<const int32_t> sequence;   // [n_rows]
  std::span<const int32_t> length;     // [n_rows] keys each row sees
  std::span<const uint8_t> prefilled;  // [n_rows] needs no list
};

class Engine {
 public:
  virtual ~Engine() = default;

  // What is given stays as it is until the next pass begins.
  virtual void begin(const PassRows&) = 0;
  // Rotates queries and keys and appends keys and values. qkv [n_rows, (H + 2 G) d], bias included; q
  // rotated, [n_rows, H d].
  virtual at::Tensor append(int layer, const at::Tensor& qkv) = 0;
  // The ranked list of every row that needs one, [n_rows, K] int32; -1 past the pages it sees.
  virtual at::Tensor rank(int layer, const LayerPolicy&, const at::Tensor& q) = 0;
  // Outputs of the heads, [n_rows, H d]. After rank() of the same layer, if that was called.
  virtual at::Tensor attend(int layer, const at::Tensor& q, const Lists&) = 0;

  // Page scores and masses of some queries, whatever the pass: q [n, H d], length and sequence [n].
  virtual void score(int layer, const at::Tensor& q, std::span<const int32_t> length,
                     std::span<const int32_t> sequence, bool group_mass, PageScore page, ScoredRows& out) = 0;
  // Page masses and page values of queries of sequence 0 in host memory, as ValueRows has them.
  virtual void value(int layer, const ValueRows&) = 0;
};

std::unique_ptr<Engine> cpu_engine(const model::Model&, KvCache&, const Policy&);
// Throws bad_input for what has no kernel: the model's head dimension, or the device's compute capability.
std::unique_ptr<Engine> cuda_engine(const model::Model&, KvCache&, const Policy&);
inline std::unique_ptr<Engine> engine_for(const model::Model& model, KvCache& cache, const Policy& policy) {
  return model.device() == model::Device::cuda ? cuda_engine(model, cache, policy)
                                               : cpu_engine(model, cache, policy);
}

}  // namespace deltacal::decode
