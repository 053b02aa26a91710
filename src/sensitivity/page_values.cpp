#include "sensitivity/page_values.h"

#include <algorithm>
#include <cassert>

#include "decode/scored_rows.h"

namespace deltacal::sensitivity {

PageValues::PageValues(const model::Model& model, int n_tokens, std::span<const int32_t> steps)
    : model_(model), steps_(steps.begin(), steps.end()), hidden_{n_tokens, model.description().n_embd, {}} {
  const ModelInfo& info = model.info();
  hidden_.layers.assign(info.n_layers, std::vector<float>(size_t(n_tokens) * size_t(hidden_.n_embd)));
  q_.assign(info.n_layers, std::vector<float>(steps.size() * size_t(info.n_heads) * size_t(info.head_dim)));
}

void PageValues::layer(const decode::LayerView& view) {
  std::copy_n(view.hidden(), size_t(view.n_rows) * size_t(hidden_.n_embd),
              hidden_.layers[view.layer].begin() + int64_t(view.position.front()) * hidden_.n_embd);
  const size_t row_size = size_t(view.n_heads) * size_t(view.head_dim);
  // Rows are consecutive positions of one sequence, so the recorded ones are a slice of steps_.
  const int first = view.position.front();
  for (auto step = std::ranges::lower_bound(steps_, first);
       step != steps_.end() && *step <= view.position.back(); ++step)
    std::copy_n(view.q() + size_t(*step - first) * row_size, row_size,
                q_[view.layer].begin() + (step - steps_.begin()) * int64_t(row_size));
}

void PageValues::finish(std::span<const int32_t> ids, int n_prompt_tokens, const LossOptions& loss,
                        decode::KvCache& cache, const Use& use) {
  assert(std::ssize(ids) == hidden_.n_tokens);
  const ModelInfo& info = model_.info();
  std::vector<int32_t> length;  // [S]
  for (const int32_t step : steps_) length.push_back(step + 1);
  decode::ValueRows rows;
  rows.n_gradients = loss.n_gradients();
  rows.length = length;
  rows.out_pages = pages_seen(steps_.back());
  std::vector<float> mass(steps_.size() * size_t(info.n_heads) * size_t(rows.out_pages));  // [S, H, U]
  std::vector<float> value(mass.size() * size_t(rows.n_gradients));  // [n_gradients, S, H, U]
  rows.mass = mass.data();
  rows.value = value.data();
  output_gradients(model_, hidden_, ids, n_prompt_tokens, steps_, loss,
                   [&](int layer, std::span<const float> gradient) {
                     rows.q = q_[layer].data();
                     rows.gradient = gradient.data();
                     decode::value_rows(model_, cache, layer, rows);
                     use(layer, rows.out_pages, mass, value);
                   });
}

}  // namespace deltacal::sensitivity
