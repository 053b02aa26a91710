#include "decode/logits_tensor.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

namespace deltacal::decode {

Logits::Logits() : impl_(new Impl) {}
Logits::Logits(Logits&&) noexcept = default;
Logits& Logits::operator=(Logits&&) noexcept = default;
Logits::~Logits() = default;

int Logits::n_rows() const { return static_cast<int>(impl_->values.size(0)); }

std::span<const float> Logits::row(int r) const {
  if (!impl_->host.defined()) impl_->host = impl_->values.cpu();
  return {impl_->host.const_data_ptr<float>() + r * impl_->host.stride(0), size_t(impl_->host.size(1))};
}

std::vector<float> nll_of(const Logits& logits, std::span<const int32_t> target) {
  const c10::InferenceMode inference;
  const at::Tensor values = logits.impl_->values.narrow(0, 0, int64_t(target.size()));  // [n_rows, V]
  const at::Tensor ids = at::from_blob(const_cast<int32_t*>(target.data()), {int64_t(target.size()), 1},
                                       at::TensorOptions(at::kInt))
                             .to(values.device(), at::kLong);
  const at::Tensor nll = (at::logsumexp(values, 1) - at::gather(values, 1, ids).squeeze(1)).cpu();
  return {nll.const_data_ptr<float>(), nll.const_data_ptr<float>() + nll.numel()};
}

Choice most_likely(const Logits& logits) {
  const c10::InferenceMode inference;
  const at::Tensor& values = logits.impl_->values;  // [n_rows, V]
  const auto [largest, token] = at::max(values, 1);
  // One copy: a double holds every token id and every f32.
  const at::Tensor both =
      at::stack({token.to(at::kDouble), (at::logsumexp(values, 1) - largest).to(at::kDouble)}).cpu();
  const double* from = both.const_data_ptr<double>();
  Choice out;
  for (int64_t r = 0; r < values.size(0); ++r) {
    out.token.push_back(static_cast<int32_t>(from[r]));
    out.nll.push_back(static_cast<float>(from[values.size(0) + r]));
  }
  return out;
}

Agreement compare(const Logits& full, const Logits& sparse) {
  const c10::InferenceMode inference;
  const at::Tensor log_p = at::log_softmax(full.impl_->values, 1);    // [n_rows, V]
  const at::Tensor log_q = at::log_softmax(sparse.impl_->values, 1);  // [n_rows, V]
  const at::Tensor kl = at::sum((log_p - log_q).mul_(at::exp(log_p)), 1).clamp_min_(0).contiguous().cpu();
  const at::Tensor same = at::argmax(log_p, 1).eq(at::argmax(log_q, 1)).contiguous().cpu();
  Agreement out;
  out.kl.assign(kl.const_data_ptr<float>(), kl.const_data_ptr<float>() + kl.numel());
  out.top1.assign(same.const_data_ptr<bool>(), same.const_data_ptr<bool>() + same.numel());
  return out;
}

}  // namespace deltacal::decode
