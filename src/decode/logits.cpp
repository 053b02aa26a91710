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
  if (!impl_->values.is_cpu()) impl_->values = impl_->values.cpu();
  return {impl_->values.const_data_ptr<float>() + r * impl_->values.stride(0), size_t(impl_->values.size(1))};
}

at::Tensor nll_tensor(const at::Tensor& logits, std::span<const int32_t> target) {
  const at::Tensor ids =
      at::from_blob(const_cast<int32_t*>(target.data()), {std::ssize(target), 1}, at::TensorOptions(at::kInt))
          .to(logits.device(), at::kLong);
  return at::logsumexp(logits, 1) - at::gather(logits, 1, ids).squeeze(1);
}

std::vector<float> nll_of(const Logits& logits, std::span<const int32_t> target) {
  const c10::InferenceMode inference;
  const at::Tensor nll =
      nll_tensor(logits.impl_->values.narrow(0, 0, std::ssize(target)), target).contiguous().cpu();
  return {nll.const_data_ptr<float>(), nll.const_data_ptr<float>() + nll.numel()};
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
