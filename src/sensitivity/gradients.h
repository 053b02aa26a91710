// The gradient of a loss with respect to the attention outputs of every layer: one backward pass of the full
// model, a layer at a time (method.md, "Predicted KL of an edge").
//
//   loss(y) = sum over positions t >= n_prompt_tokens of -log p(y[t])
//   g[l,t]  = d loss / d o[l,t]       o[l,t] in R^(H d): the heads' outputs before the output projection
//
// y are the sequence's own next tokens, or draws from the model's next-token distributions. On a CUDA device
// all products are in bf16, and so is the gradient that one takes from another; two draws or more are the
// CPU's but where rounding moves a cumulative probability past the number drawn.
// T positions, N layers, E width of the residual stream, H query heads, d head dimension, S steps.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/model.h"
#include "sensitivity/activations.h"

namespace deltacal::sensitivity {

struct LossOptions {
  int draws = 0;  // 0: the sequence's own next tokens; n: that many draws a position, from `seed`
  uint64_t seed = 0;
  int n_gradients() const { return draws > 0 ? draws : 1; }
};

// gradient [n_gradients, S, H, d], valid during the call.
using UseGradient = std::function<void(int layer, std::span<const float> gradient)>;

// Calls `use` for the layers N-1, ..., 0. What of a layer was not kept in `activations` is computed again:
// memory beside it is that of one layer, O(T). `cache` holds the keys and values of the forward pass as
// sequence 0. `steps` [S] are ascending positions from n_prompt_tokens on. failure that names layer and step
// where a gradient is not finite.
void output_gradients(const model::Model&, Activations& activations, decode::KvCache& cache,
                      std::span<const int32_t> ids, int n_prompt_tokens, std::span<const int32_t> steps,
                      const LossOptions&, const UseGradient& use);

}  // namespace deltacal::sensitivity
