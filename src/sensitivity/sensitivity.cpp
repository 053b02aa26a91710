#include "sensitivity/sensitivity.h"

#include <algorithm>
#include <cassert>

#include "decode/step_memory.h"
#include "decode/view_tensors.h"
#include "sensitivity/backward_memory.h"

namespace deltacal::sensitivity {
namespace {

// {sum, 1} first, then those asked for.
std::vector<Ranking> all_rankings(const Options& options) {
  std::vector<Ranking> rankings{{}};
  rankings.insert(rankings.end(), options.rankings.begin(), options.rankings.end());
  return rankings;
}

RankedLists lists_of(const Ranking& ranking, const ModelInfo& model, int n_steps) {
  std::optional<config::AdaptiveRefresh> signal;
  if (ranking.refresh_below) signal = config::AdaptiveRefresh{*ranking.refresh_below, most_steps_of_signal};
  const size_t N = size_t(model.n_layers);
  return {ranking,
          std::vector(N, decode::ListPlan(ranking.refresh_interval, signal, model.n_heads, model.head_dim)),
          std::vector<RankedLists::Last>(N), std::vector<int32_t>(signal ? N * size_t(n_steps) : 0)};
}

// Bytes of a device's memory that the forward and the backward pass take beside weights, cache and
// activations.
size_t needed_besides(const model::Description& d, int n_tokens, const LossOptions& loss) {
  decode::PrefillNeed need;
  need.n_positions = n_tokens;
  need.n_caches = 0;
  need.n_maps = 2 + d.info.n_kv_heads;
  Sensitivity::set_need(need, d, loss);
  return decode::prefill_memory(d, need).total();
}

}  // namespace

Sensitivity::Sensitivity(const model::Model& model, int n_tokens, std::span<const int32_t> steps,
                         const Options& options, int first_step)
    : options_(options),
      steps_(steps.begin(), steps.end()),
      first_step_(first_step),
      pass_(model, n_tokens, steps, needed_besides(model.description(), n_tokens, options.loss)),
      edges_(model.info().n_layers, model.info().n_heads, steps, options.budgets, options.loss.n_gradients(),
             options.position_bias, all_rankings(options)) {
  for (const Ranking& ranking : all_rankings(options))
    lists_.push_back(lists_of(ranking, model.info(), n_tokens - first_step));
}

bool Sensitivity::reads_query() const {
  return std::ranges::any_of(options_.rankings, [](const Ranking& r) { return r.refresh_below.has_value(); });
}

void Sensitivity::layer(const decode::LayerView& view) {
  pass_.layer(view);
  for (int ranking = 0; ranking < static_cast<int>(lists_.size()); ++ranking) rank(view, ranking);
}

// The lists in force at the recorded steps of a chunk: made in it, or (the first of them) in an earlier one.
void Sensitivity::rank(const decode::LayerView& view, int ranking) {
  RankedLists& lists = lists_[size_t(ranking)];
  decode::ListPlan& plan = lists.plans[size_t(view.layer)];
  const int chunk = view.position.front();
  plan.plan({{}, view.position, view.sequence, {&first_step_, 1}}, view.query());
  std::vector<MadeList> made;
  const auto begin = std::ranges::lower_bound(steps_, chunk);
  for (auto step = begin; step != steps_.end() && *step <= view.position.back(); ++step) {
    const int t0 = plan.made_at(*step - chunk), index = int(step - steps_.begin());
    if (made.empty() || made.back().t0 != t0) made.push_back({t0, index, index});
    made.back().end = index + 1;
  }
  const auto here = std::ranges::find_if(made, [&](const MadeList& list) { return list.t0 >= chunk; });
  if (here != made.begin()) score_last(view, ranking, made.front());
  if (here != made.end()) score(view, ranking, {here, made.end()});

  RankedLists::Last& last = lists.last[size_t(view.layer)];
  const size_t n_steps = lists.made_at.size() / lists.plans.size();
  for (int row = std::max(0, first_step_ - chunk); row < view.n_rows && n_steps > 0; ++row)
    lists.made_at[size_t(view.layer) * n_steps + size_t(chunk + row - first_step_)] = plan.made_at(row);
  last.t0 = plan.made_at(view.n_rows - 1);
  if (last.t0 >= chunk && lists.ranking.keeps_lists()) {  // otherwise every step makes its own
    const int row[] = {last.t0 - chunk};
    last.q = decode::begin_rows_of_q(view, row)();
  }
  plan.keep(view.query());
}

void Sensitivity::score(const decode::LayerView& view, int ranking, std::span<const MadeList> lists) {
  std::vector<int> rows;  // of the view
  for (const MadeList& list : lists) rows.push_back(list.t0 - view.position.front());
  constexpr size_t most_pending = 4;
  pending_.push_back({ranking,
                      view.layer,
                      {lists.begin(), lists.end()},
                      decode::begin_scores(view, rows, false, lists_[size_t(ranking)].ranking.page)});
  while (pending_.size() > most_pending) rank_oldest();
}

void Sensitivity::rank_oldest() {
  const Pending oldest = std::move(pending_.front());
  pending_.pop_front();
  oldest.take(scored_);
  edges_.rank(oldest.ranking, oldest.layer, oldest.lists, scored_.n_pages, scored_.score);
}

// A list of an earlier chunk, whose keys the cache still has.
void Sensitivity::score_last(const decode::LayerView& view, int ranking, const MadeList& list) {
  const RankedLists::Last& last = lists_[size_t(ranking)].last[size_t(view.layer)];
  assert(last.t0 == list.t0);
  decode::score_query(view, last.q.data(), last.t0, view.sequence.front(), scored_,
                      lists_[size_t(ranking)].ranking.page);
  edges_.rank(ranking, view.layer, {&list, 1}, scored_.n_pages, scored_.score);
}

void Sensitivity::finish(std::span<const int32_t> ids, int n_prompt_tokens, decode::KvCache& cache) {
  while (!pending_.empty()) rank_oldest();
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
  const size_t last = (1 + options.rankings.size()) * N * (row + T);  // row and steps of the lists
  const size_t hidden = N * T * size_t(d.n_embd), queries = N * S * row;
  const size_t n_rankings = 1 + options.rankings.size();
  const size_t lists = n_rankings * N * l_pages.size() * S * size_t(max_k);
  const size_t deltas = n_rankings * n * E * N * (N + 1) / 2 * S;
  const size_t pages = (1 + n) * S * size_t(d.info.n_heads) * size_t(pages_for(n_tokens));
  // One layer: q, k, v for every query head, their gradients and the output's; the residual stream's
  // gradients; 512 rows of the feed-forward part and 256 of the logits, each several times over.
  const size_t attention = T * (8 + n) * row, stream = 2 * n * T * size_t(d.n_embd);
  const size_t rows = 512 * 8 * size_t(d.n_ff) + 256 * 4 * size_t(d.n_vocab);
  return sizeof(float) * (hidden + queries + last + lists + deltas + pages + attention + stream + rows);
}

void Sensitivity::set_need(decode::PrefillNeed& need, const model::Description& d, const LossOptions& loss) {
  need.after = [d, n = loss.n_gradients()](int n_positions) {
    return cuda_backward_bytes(d, n, n_positions);
  };
}

}  // namespace deltacal::sensitivity
