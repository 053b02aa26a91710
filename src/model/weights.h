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
  // [V, E]. On the CPU f32 (a product in bf16 would round the logits to bf16 too, and drown a small KL),
  // where random in the compute dtype, where tied `embedding` itself. On a CUDA device bf16 in any case:
  // products there leave their sums in f32, and a step reads all of it.
  at::Tensor output;
};

}  // namespace deltacal::model
