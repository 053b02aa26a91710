#include "sensitivity/gradients.h"

#include <ATen/ATen.h>

#include <cassert>
#include <cmath>

#include "core/error.h"
#include "model/weights.h"
#include "sensitivity/backward.h"

namespace deltacal::sensitivity {
namespace {

void require_finite(std::span<const float> gradient, size_t row_size, int layer,
                    std::span<const int32_t> steps) {
  for (size_t i = 0; i < gradient.size(); ++i)
    if (!std::isfinite(gradient[i]))
      throw failure(
          "layer {}, step {}: the gradient of the attention output is {}: the model's arithmetic overflowed. "
          "Try --device cpu --dtype f32.",
          layer, steps[i / row_size % steps.size()], gradient[i]);
}

}  // namespace

void output_gradients(const model::Model& model, Activations& activations, decode::KvCache& cache,
                      std::span<const int32_t> ids, int n_prompt_tokens, std::span<const int32_t> steps,
                      const LossOptions& loss, const UseGradient& use) {
  assert(std::ssize(ids) == activations.n_tokens() && !steps.empty() && steps.front() >= n_prompt_tokens);
  const std::unique_ptr<Backward> backward = model.device() == model::Device::cuda
                                                 ? cuda_backward(model, activations.tensors(), cache, loss)
                                                 : autograd_backward(model, activations.tensors(), loss);
  backward->start(ids, n_prompt_tokens);
  const at::Tensor rows = at::from_blob(const_cast<int32_t*>(steps.data()), {std::ssize(steps)}, at::kInt)
                              .to(model.weights().embedding.device(), at::kLong);
  const size_t row_size = size_t(model.info().n_heads) * size_t(model.info().head_dim);
  for (int layer = model.info().n_layers - 1; layer >= 0; --layer) {
    backward->layer(layer, rows);
    const at::Tensor of_output = backward->of_output();
    const std::span<const float> gradient(of_output.const_data_ptr<float>(), size_t(of_output.numel()));
    require_finite(gradient, row_size, layer, steps);
    use(layer, gradient);
  }
}

}  // namespace deltacal::sensitivity
