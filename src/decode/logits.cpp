#include "decode/logits_tensor.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

namespace deltacal::decode {

Logits::Logits() : impl_(new Impl) {}
Logits::Logits(Logits&&) noexcept = default;
Logits& Logits::operator=(Logits&&) noexcept = default;
Logits::~Logits() = default;

Logits Logits::of(model::Device device, int n_rows, std::span<const float> numbers) {
  const c10::InferenceMode inference;
  Logits out;
  out.impl_->values = at::from_blob(const_cast<float*>(numbers.data()),
                                    {n_rows, std::ssize(numbers) / n_rows}, at::TensorOptions(at::kFloat))
                          .clone()
                          .to(device == model::Device::cuda ? at::kCUDA : at::kCPU);
  return out;
}

int Logits::n_rows() const { return static_cast<int>(impl_->values.size(0)); }

std::span<const float> Logits::row(int r) const {
  if (!impl_->host.defined()) impl_->host = impl_->values.cpu();
  return {impl_->host.const_data_ptr<float>() + r * impl_->host.stride(0), size_t(impl_->host.size(1))};
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

namespace {

// token, logit [n_rows] of values [n_rows, V]; [2, n_rows]: a double holds every token id and every f32.
at::Tensor chosen(const at::Tensor& values, const at::Tensor& token, const at::Tensor& logit) {
  return at::stack({token.to(at::kDouble), (at::logsumexp(values, 1) - logit).to(at::kDouble)});
}
// In one copy. of_rows as chosen() makes it.
Choice choice_of(const at::Tensor& of_rows) {
  const at::Tensor both = of_rows.cpu();
  const double* from = both.const_data_ptr<double>();
  const int64_t n_rows = both.size(1);
  Choice out;
  for (int64_t r = 0; r < n_rows; ++r) {
    out.token.push_back(static_cast<int32_t>(from[r]));
    out.nll.push_back(static_cast<float>(from[n_rows + r]));
  }
  return out;
}

// Temperature, top_k, top_p and the number drawn. [4, n_rows, 1] f64 in host memory
at::Tensor numbers_of(std::span<const Draw> draws, int64_t n_vocab) {
  at::Tensor numbers = at::empty({4, std::ssize(draws), 1}, at::kDouble);
  double* to = numbers.mutable_data_ptr<double>();
  const auto add = [&](const auto& of) { to = std::ranges::transform(draws, to, of).out; };
  add([](const Draw& d) { return d.options.temperature > 0 ? double(d.options.temperature) : 1.0; });
  add([&](const Draw& d) { return d.options.top_k > 0 ? double(d.options.top_k) : double(n_vocab); });
  add([](const Draw& d) { return double(d.options.top_p); });
  add([](const Draw& d) { return d.options.temperature > 0 ? d.uniform : 0.0; });  // 0: the most likely
  return numbers;
}

// From values [n_rows, V] by of_rows [4, n_rows, 1] (numbers_of()), as chosen().
at::Tensor drawn(const at::Tensor& values, const at::Tensor& of_rows) {
  const int64_t n_vocab = values.size(1);
  const auto [sorted, ids] =
      at::sort(values, /*stable=*/true, 1, /*descending=*/true);  // equals: lower id first
  const at::Tensor rank = at::arange(n_vocab, of_rows.options()).unsqueeze(0);
  const at::Tensor p = at::exp((sorted.to(at::kDouble) - sorted.narrow(1, 0, 1)) / of_rows[0])
                           .mul_(rank < of_rows[1]);  // [n_rows, V]
  const at::Tensor sums = at::cumsum(p, 1);
  const auto passed = [&](const at::Tensor& whether) {  // how many of a row's sums are; [n_rows, 1]
    return whether.sum(1, /*keepdim=*/true).clamp_max_(n_vocab - 1);
  };
  const at::Tensor last = passed(sums < of_rows[2] * sums.narrow(1, n_vocab - 1, 1)),  // of the nucleus
      place = at::minimum(passed(sums <= at::gather(sums, 1, last) * of_rows[3]), last);
  return chosen(values, at::gather(ids, 1, place).squeeze(1), at::gather(sorted, 1, place).squeeze(1));
}

}  // namespace

Choice most_likely(const Logits& logits) {
  const c10::InferenceMode inference;
  const at::Tensor& values = logits.impl_->values;  // [n_rows, V]
  const auto [largest, token] = at::max(values, 1);
  return choice_of(chosen(values, token, largest));
}

Choice draw(const Logits& logits, std::span<const Draw> draws) {
  const c10::InferenceMode inference;
  const at::Tensor& values = logits.impl_->values;  // [n_rows, V]
  const at::Tensor of_rows = numbers_of(draws, values.size(1)).to(values.device());
  std::vector<at::Tensor> parts{at::empty({2, 0}, of_rows.options())};
  for (int64_t first = 0; first < values.size(0); first += rows_of_draw) {
    const int64_t n = std::min<int64_t>(rows_of_draw, values.size(0) - first);
    parts.push_back(drawn(values.narrow(0, first, n), of_rows.narrow(1, first, n)));
  }
  return choice_of(at::cat(parts, 1));
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
