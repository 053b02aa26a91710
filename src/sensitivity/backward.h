// The backward pass of the full model, a layer at a time from the last to the first: what output_gradients()
// asks of a device. Included only by src/sensitivity/*.cpp.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>

#include "sensitivity/activation_tensors.h"
#include "sensitivity/gradients.h"

namespace deltacal::sensitivity {

class Backward {
 public:
  virtual ~Backward() = default;
  // The gradients of the last layer's output. n_prompt_tokens as output_gradients() has it.
  virtual void start(std::span<const int32_t> ids, int n_prompt_tokens) = 0;
  // For the layers N-1, ..., 0 in this order: the gradients of what the layer was given. steps [S] int64: the
  // positions that of_output() will be asked for. On a device most of the work is still to be
  // done when it returns.
  virtual void layer(int layer, const at::Tensor& steps) = 0;
  // The gradients of the attention output of the layer just begun, at its steps, when they are there. In host
  // memory, [n_gradients, S, H d] f32.
  virtual at::Tensor of_output() = 0;
};

// By LibTorch's autograd, in f32 but for products with weights of bf16: for the CPU, and what the other must
// equal.
std::unique_ptr<Backward> autograd_backward(const model::Model&, const Activations::Impl&,
                                            const LossOptions&);
// By kernels of our own, cuDNN's or FlashAttention's, and products in bf16. `cache` holds the keys and values
// of the forward pass as sequence 0. What a layer has kept is given back once it is used.
std::unique_ptr<Backward> cuda_backward(const model::Model&, Activations::Impl&, decode::KvCache& cache,
                                        const LossOptions&);

}  // namespace deltacal::sensitivity
