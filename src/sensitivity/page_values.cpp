#include "sensitivity/page_values.h"

#include <algorithm>
#include <cassert>
#include <future>

#include "decode/scored_rows.h"
#include "decode/view_tensors.h"
#include "sensitivity/page_results.h"

namespace deltacal::sensitivity {

PageValues::PageValues(const model::Model& model, int n_tokens, std::span<const int32_t> steps,
                       size_t besides)
    : model_(model), steps_(steps.begin(), steps.end()), activations_(model, n_tokens, besides) {
  const ModelInfo& info = model.info();
  const size_t n_rows = steps.size() * size_t(info.n_heads);
  q_.assign(info.n_layers, std::vector<float>(n_rows * size_t(info.head_dim)));
  log_sum_exp_.assign(info.n_layers, std::vector<float>(n_rows));
}

void PageValues::layer(const decode::LayerView& view) {
  constexpr size_t most_pending = 4;
  activations_.take(view);
  // Rows are consecutive positions of one sequence, so the recorded ones are a slice of steps_.
  const auto begin = std::ranges::lower_bound(steps_, view.position.front()),
             end = std::ranges::upper_bound(steps_, view.position.back());
  if (begin == end) return;
  std::vector<int> rows;  // of the view
  for (auto step = begin; step != end; ++step) rows.push_back(*step - view.position.front());
  const bool known = decode::log_sum_exp_of(view).defined();
  pending_.push_back({view.layer, size_t(begin - steps_.begin()), decode::begin_rows_of_q(view, rows),
                      known ? decode::begin_rows_of_log_sum_exp(view, rows) : decode::TakeRows()});
  while (pending_.size() > most_pending) keep_oldest();
}

void PageValues::keep_oldest() {
  const Pending oldest = std::move(pending_.front());
  pending_.pop_front();
  const size_t n_heads = size_t(model_.info().n_heads), first = oldest.first_step * n_heads;
  std::vector<float>& known = log_sum_exp_[oldest.layer];
  if (!oldest.log_sum_exp) known.clear();
  if (!known.empty()) std::ranges::copy(oldest.log_sum_exp(), known.begin() + std::ptrdiff_t(first));
  std::ranges::copy(oldest.q(),
                    q_[oldest.layer].begin() + std::ptrdiff_t(first * size_t(model_.info().head_dim)));
}

void PageValues::feed_forward(const decode::LayerView& view) {
  activations_.take_gate(view);
}

void PageValues::finish(std::span<const int32_t> ids, int n_prompt_tokens, const LossOptions& loss,
                        decode::KvCache& cache, const Use& use) {
  assert(std::ssize(ids) == activations_.n_tokens());
  while (!pending_.empty()) keep_oldest();
  const ModelInfo& info = model_.info();
  std::vector<int32_t> length;  // [S]
  for (const int32_t step : steps_) length.push_back(step + 1);
  decode::ValueRows rows;
  rows.n_gradients = loss.n_gradients();
  rows.length = length;
  rows.out_pages = pages_seen(steps_.back());
  const decode::FindValues find_values = decode::values_of(model_, cache);
  // On a device a layer's values are found, copied and used while it computes the next one's gradients.
  const bool on_device = model_.device() == model::Device::cuda;
  const size_t n_rows = steps_.size() * size_t(info.n_heads);
  std::vector<PageResults> results;
  for (int i = 0; i < (on_device ? 2 : 1); ++i)
    results.emplace_back(n_rows, n_rows * size_t(rows.out_pages), n_rows * size_t(info.head_dim),
                         rows.n_gradients, on_device);
  std::future<void> used;
  output_gradients(model_, activations_, cache, ids, n_prompt_tokens, steps_, loss,
                   [&](int layer, std::span<const float> gradient) {
                     const PageResults& at_hand = results[size_t(layer) % results.size()];
                     std::ranges::copy(q_[layer], at_hand.q());
                     std::ranges::copy(log_sum_exp_[layer], at_hand.log_sum_exp());
                     std::ranges::copy(gradient, at_hand.gradient());
                     rows.q = at_hand.q();
                     rows.log_sum_exp = log_sum_exp_[layer].empty() ? nullptr : at_hand.log_sum_exp();
                     rows.gradient = at_hand.gradient();
                     rows.mass = at_hand.mass();
                     rows.value = at_hand.value();
                     decode::WaitForValues wait = find_values(layer, rows);
                     if (used.valid()) used.get();
                     used = std::async(on_device ? std::launch::async : std::launch::deferred,
                                       [&, layer, wait = std::move(wait)] {
                                         wait();
                                         use(layer, rows.out_pages, at_hand.masses(), at_hand.values());
                                       });
                     if (!on_device) used.get();
                   });
  if (used.valid()) used.get();
}

}  // namespace deltacal::sensitivity
