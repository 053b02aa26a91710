// The weights of a model as LibTorch tensors. Included only where LibTorch is used: src/model/*.cpp, src/decode/*.cpp.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

namespace deltacal::model {

// N layers, E embedding, H query heads, G key/value heads, d head dimension, F feed-forward, V vocabulary.
// Matrices are [out, in] in the compute dtype (f32 or bf16); norms and biases are f32.
struct LayerWeights {
  at::Tensor attention_norm;   // [E]
  at::Tensor qkv;              // [(H + 2 G) d, E]  rows of q, k, v in this order
  at::Tensor qkv_bias;         // [(H + 2 G) d], undefined without biases
  at::Tensor attention_out;    // [E, H d]
  at::Tensor feed_norm;        // [E]
  at::Tensor gate_up;          // [2 F, E]  rows of gate, then up
  at::Tensor down;             // [E, F]
};

struct Weights {
  at::Tensor embedding;             // [V, E] f32
  std::vector<LayerWeights> layers; // [N]
  at::Tensor output_norm;           // [E]
  // [V, E] f32 (logits in bf16 would drown a small KL), in the compute dtype where random; `embedding` itself
  // where tied
  at::Tensor output;
  // The same in bf16, for steps on a CUDA device, which read all of it each time: made when first asked for.
  const at::Tensor& output_16() const;

 private:
  mutable at::Tensor output_16_;
};

}  // namespace deltacal::model
