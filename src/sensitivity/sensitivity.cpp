#include "sensitivity/sensitivity.h"

#include <algorithm>

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
    : options_(options),
      pass_(model, n_tokens, steps),
      edges_(model.info().n_layers, model.info().n_heads, steps, options.budgets, options.loss.n_gradients(),
             options.position_bias, refresh_intervals(options), first_step) {}

void Sensitivity::layer(const decode::LayerView& view) {
  pass_.layer(view);
  for (int ranking = 0; ranking <= static_cast<int>(options_.rankings.size()); ++ranking)
    rank(view, ranking, ranking == 0 ? PageScore::sum : options_.rankings[ranking - 1].page);
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
  pass_.finish(ids, n_prompt_tokens, options_.loss, cache,
               [&](int layer, int n_pages, std::span<const float> mass, std::span<const float> value) {
                 edges_.add(layer, n_pages, mass, value);
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
