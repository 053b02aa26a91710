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
    : model_(model), steps_(steps.begin(), steps.end()), hidden_(model, n_tokens, besides) {
  const ModelInfo& info = model.info();
  q_.assign(info.n_layers, std::vector<float>(steps.size() * size_t(info.n_heads) * size_t(info.head_dim)));
}

void PageValues::layer(const decode::LayerView& view) {
  hidden_.take(view);
  const size_t row_size = size_t(view.n_heads) * size_t(view.head_dim);
  // Rows are consecutive positions of one sequence, so the recorded ones are a slice of steps_.
  const auto begin = std::ranges::lower_bound(steps_, view.position.front()),
             end = std::ranges::upper_bound(steps_, view.position.back());
  std::vector<int> rows;  // of the view
  for (auto step = begin; step != end; ++step) rows.push_back(*step - view.position.front());
  const std::vector<float> q = decode::rows_of_q(view, rows);
  std::ranges::copy(q, q_[view.layer].begin() + (begin - steps_.begin()) * int64_t(row_size));
}

void PageValues::finish(std::span<const int32_t> ids, int n_prompt_tokens, const LossOptions& loss,
                        decode::KvCache& cache, const Use& use) {
  assert(std::ssize(ids) == hidden_.n_tokens());
  const ModelInfo& info = model_.info();
  std::vector<int32_t> length;  // [S]
  for (const int32_t step : steps_) length.push_back(step + 1);
  decode::ValueRows rows;
  rows.n_gradients = loss.n_gradients();
  rows.length = length;
  rows.out_pages = pages_seen(steps_.back());
  const decode::FindValues find_values = decode::values_of(model_, cache);
  // On a device a layer's results are used while it computes the next one's.
  const bool on_device = model_.device() == model::Device::cuda;
  std::vector<PageResults> results;
  for (int i = 0; i < (on_device ? 2 : 1); ++i)
    results.emplace_back(steps_.size() * size_t(info.n_heads) * size_t(rows.out_pages), rows.n_gradients,
                         on_device);
  std::future<void> used;
  output_gradients(model_, hidden_, ids, n_prompt_tokens, steps_, loss,
                   [&](int layer, std::span<const float> gradient) {
                     rows.q = q_[layer].data();
                     rows.gradient = gradient.data();
                     const PageResults& at_hand = results[size_t(layer) % results.size()];
                     rows.mass = at_hand.mass();
                     rows.value = at_hand.value();
                     find_values(layer, rows);
                     if (used.valid()) used.get();
                     used = std::async(on_device ? std::launch::async : std::launch::deferred, [&, layer] {
                       use(layer, rows.out_pages, at_hand.masses(), at_hand.values());
                     });
                     if (!on_device) used.get();
                   });
  if (used.valid()) used.get();
}

}  // namespace deltacal::sensitivity
