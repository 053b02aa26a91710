#include "sensitivity/sensitivity.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "kernels/page_value/page_value.h"

namespace deltacal::sensitivity {
namespace {

// {sum, 1} first, then those asked for.
std::vector<int> refresh_intervals(const Options& options) {
  std::vector<int> intervals{1};
  for (const Ranking& ranking : options.rankings) intervals.push_back(ranking.refresh_interval);
  return intervals;
}

}  // namespace

Sensitivity::Sensitivity(const model::Model& model, int n_tokens, std::span<const int32_t> steps,
                         const Options& options, int first_step)
    : model_(model),
      options_(options),
      steps_(steps.begin(), steps.end()),
      hidden_{n_tokens, model.description().n_embd, {}},
      edges_(model.info().n_layers, model.info().n_heads, steps, options.budgets, options.loss.n_gradients(),
             options.position_bias, refresh_intervals(options), first_step) {
  const ModelInfo& info = model.info();
  hidden_.layers.assign(info.n_layers, std::vector<float>(size_t(n_tokens) * size_t(hidden_.n_embd)));
  q_.assign(info.n_layers, std::vector<float>(steps.size() * size_t(info.n_heads) * size_t(info.head_dim)));
}

void Sensitivity::layer(const decode::LayerView& view) {
  const int first_position = view.position.front();
  std::copy_n(view.hidden, size_t(view.n_rows) * size_t(hidden_.n_embd),
              hidden_.layers[view.layer].begin() + int64_t(first_position) * hidden_.n_embd);

  for (int ranking = 0; ranking <= static_cast<int>(options_.rankings.size()); ++ranking)
    rank(view, ranking, ranking == 0 ? PageScore::sum : options_.rankings[ranking - 1].page);

  // Rows are consecutive positions of one sequence, so the recorded ones are a slice of steps_.
  const size_t row_size = size_t(view.n_heads) * size_t(view.head_dim);
  auto step = std::lower_bound(steps_.begin(), steps_.end(), first_position);
  for (; step != steps_.end() && *step <= view.position.back(); ++step)
    std::copy_n(view.q + size_t(*step - first_position) * row_size, row_size,
                q_[view.layer].begin() + (step - steps_.begin()) * int64_t(row_size));
}

// The lists of the rows at which this ranking makes those that recorded steps use: the steps themselves, or earlier.
void Sensitivity::rank(const decode::LayerView& view, int ranking, PageScore page) {
  const auto& positions = edges_.list_positions(ranking);
  const auto first = std::lower_bound(positions.begin(), positions.end(), view.position.front());
  const auto last = std::upper_bound(first, positions.end(), view.position.back());
  if (first == last) return;
  std::vector<int> rows;  // of the view
  for (auto position = first; position != last; ++position) rows.push_back(*position - view.position.front());
  decode::score_rows(view, rows, false, scored_, page);
  edges_.rank(ranking, view.layer, {first, last}, scored_.n_pages, scored_.score);
}

void Sensitivity::finish(std::span<const int32_t> ids, int n_prompt_tokens, decode::KvCache& cache) {
  assert(std::ssize(ids) == hidden_.n_tokens);
  const ModelInfo& info = model_.info();
  std::vector<int32_t> length;  // [S]
  for (const int32_t step : steps_) length.push_back(step + 1);
  kernels::page_value::Params p;
  p.n_rows = static_cast<int>(steps_.size());
  p.n_heads = info.n_heads;
  p.n_gradients = options_.loss.n_gradients();
  p.scale = 1.0f / std::sqrt(static_cast<float>(info.head_dim));
  p.length = length.data();
  p.out_pages = pages_seen(steps_.back());
  std::vector<float> mass(steps_.size() * size_t(p.n_heads) * size_t(p.out_pages));  // [S, H, U]
  std::vector<float> value(mass.size() * size_t(p.n_gradients));                     // [n_gradients, S, H, U]
  p.mass = mass.data();
  p.value = value.data();
  output_gradients(model_, hidden_, ids, n_prompt_tokens, steps_, options_.loss,
                   [&](int layer, std::span<const float> gradient) {
                     p.q = q_[layer].data();
                     p.gradient = gradient.data();
                     p.kv = cache.layer(layer);
                     kernels::page_value::cpu(p);
                     edges_.add(layer, p.out_pages, mass, value);
                   });
}

size_t Sensitivity::bytes(const model::Description& d, int n_tokens, int n_steps, const Options& options) {
  const size_t N = size_t(d.info.n_layers), T = size_t(n_tokens), S = size_t(n_steps),
               E = options.budgets.size();
  const size_t n = size_t(options.loss.n_gradients()), row = size_t(d.info.n_heads) * size_t(d.info.head_dim);
  int max_k = 0;
  std::vector<int> l_pages;
  for (const PageBudget& b : options.budgets) {
    max_k = std::max(max_k, b.k_pages);
    if (std::find(l_pages.begin(), l_pages.end(), b.l_pages) == l_pages.end()) l_pages.push_back(b.l_pages);
  }
  const size_t hidden = N * T * size_t(d.n_embd), queries = N * S * row;
  const size_t n_rankings = 1 + options.rankings.size();
  const size_t lists = n_rankings * N * l_pages.size() * S * size_t(max_k);
  const size_t deltas = n_rankings * n * E * N * (N + 1) / 2 * S;
  const size_t pages = (1 + n) * S * size_t(d.info.n_heads) * size_t(pages_for(n_tokens));
  // One layer: q, k, v for every query head, their gradients and the output's; the residual stream's
  // gradients; 512 rows of the feed-forward part and 256 of the logits, each several times over.
  const size_t attention = T * (8 + n) * row, stream = 2 * n * T * size_t(d.n_embd);
  const size_t rows = 512 * 8 * size_t(d.n_ff) + 256 * 4 * size_t(d.n_vocab);
  return sizeof(float) * (hidden + queries + lists + deltas + pages + attention + stream + rows);
}

}  // namespace deltacal::sensitivity
