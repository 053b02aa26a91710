#include "sensitivity/hidden_states.h"

#include <ATen/ATen.h>

#include "decode/device_info.h"
#include "decode/view_tensors.h"
#include "sensitivity/hidden_tensors.h"

namespace deltacal::sensitivity {

HiddenStates::HiddenStates(const model::Model& model, int n_tokens, size_t besides) : impl_(new Impl) {
  const model::Description& d = model.description();
  const bool on_device = model.device() == model::Device::cuda &&
                         bytes(d, n_tokens) + besides <= decode::device_info().free_bytes;
  const auto options = at::TensorOptions(at::kFloat).device(on_device ? at::kCUDA : at::kCPU);
  for (int layer = 0; layer < d.info.n_layers; ++layer)
    impl_->layers.push_back(at::empty({n_tokens, d.n_embd}, options));
}

HiddenStates::HiddenStates(HiddenStates&&) noexcept = default;
HiddenStates::~HiddenStates() = default;

void HiddenStates::take(const decode::LayerView& view) {
  impl_->layers[size_t(view.layer)].narrow(0, view.position.front(), view.n_rows).copy_(hidden_of(view));
}

int HiddenStates::n_tokens() const {
  return static_cast<int>(impl_->layers.front().size(0));
}

size_t HiddenStates::bytes(const model::Description& d, int n_tokens) {
  return sizeof(float) * size_t(d.info.n_layers) * size_t(n_tokens) * size_t(d.n_embd);
}

}  // namespace deltacal::sensitivity
