// What the decoder leaves to a device: the paged cache, attention over it, the ranking of its pages, and what
// is between the linear layers, which are LibTorch's on either device. Included only by src/decode/*.cpp.
//
// N layers, E embedding, H query heads, G key/value heads, d head dimension, F feed-forward, V vocabulary.
// Tensors lie in the device's memory, queries and outputs in its type: f32 on the CPU, the cache's on a CUDA
// device.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "decode/decoder.h"
#include "decode/scored_rows.h"
#include "decode/view_tensors.h"

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

// Rows whose page scores and masses are wanted.
struct ScoreRows {
  at::Tensor q;                       // [n, H d]; of the whole pass, [n_rows, H d], where of_pass tells rows
  std::span<const int32_t> length;    // [n] keys each row sees
  std::span<const int32_t> sequence;  // [n]
  std::span<const int> of_pass;       // [n] their places in the pass at hand; empty: they are not of it
  bool group_mass = false;
  PageScore page = PageScore::sum;
};

class Engine {
 public:
  virtual ~Engine() = default;

  // What is given stays as it is until the next pass begins.
  virtual void begin(const PassRows&) = 0;
  // After the last layer: what is kept for a pass alone may go.
  virtual void end() {}
  // x += added, where there is any, and the RMS norm of x: x [n_rows, E] f32, the residual stream; added
  // [n_rows, E] of a linear layer, may be undefined; weight [E]. [n_rows, E] for a linear layer.
  virtual at::Tensor add_and_norm(at::Tensor& x, const at::Tensor& added, const at::Tensor& weight) = 0;
  // silu(gate) * up. gate_up [n_rows, 2 F] of a linear layer; [n_rows, F].
  virtual at::Tensor gate(const at::Tensor& gate_up) = 0;
  // Adds the bias [(H + 2 G) d], where there is one, rotates queries and keys and appends keys and values.
  // qkv [n_rows, (H + 2 G) d] of a linear layer, used up; q rotated, [n_rows, H d].
  virtual at::Tensor append(int layer, at::Tensor qkv, const at::Tensor& bias) = 0;
  // The ranked list of every row that needs one, [n_rows, K] int32; -1 past the pages it sees.
  virtual at::Tensor rank(int layer, const LayerPolicy&, const at::Tensor& q) = 0;
  // Outputs of the heads, [n_rows, H d]. After rank() of the same layer, if that was called.
  virtual at::Tensor attend(int layer, const at::Tensor& q, const Lists&) = 0;

  // Natural log of the denominator of the softmax over all pages, after attend() of the same layer.
  // [n_rows, H] f32, undefined where attend() does not find it: on the CPU, and of few rows.
  virtual at::Tensor log_sum_exp(int /*layer*/) const { return {}; }

  // Begins to bring some rows [n_all, width] to the host. rows [n]: their indices.
  virtual TakeRows take_rows(const at::Tensor& all, std::span<const int> rows) = 0;
  // Begins to compute them; what is returned waits for them, once, and may be called when later passes have
  // begun.
  virtual TakeScores score(int layer, const ScoreRows&) = 0;
  // Begins to find page masses and page values of queries of sequence 0, as ValueRows has them.
  virtual WaitForValues value(int layer, const ValueRows&) = 0;
  // -log p(target), [n] f32 nats. logits [n, V] f32, target [n] int32 in host memory.
  virtual at::Tensor nll(const at::Tensor& logits, std::span<const int32_t> target) = 0;
};

std::unique_ptr<Engine> cpu_engine(const model::Model&, KvCache&, const Policy&);
// Throws bad_input for what has no kernel: the model's head dimension, or the device's compute capability.
std::unique_ptr<Engine> cuda_engine(const model::Model&, KvCache&, const Policy&);
inline std::unique_ptr<Engine> engine_for(const model::Model& model, KvCache& cache, const Policy& policy) {
  return model.device() == model::Device::cuda ? cuda_engine(model, cache, policy)
                                               : cpu_engine(model, cache, policy);
}

}  // namespace deltacal::decode
