#include "calib/schedule/schedule.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "calib/schedule/search.h"
#include "core/error.h"

namespace deltacal::calib::schedule {
namespace {

void check(const LayerCosts& costs, size_t n_k) {
  if (costs.sparse.size() != n_k)
    throw bad_input("costs for {} values of K, losses for {}", costs.sparse.size(), n_k);
  if (costs.full < 1 || costs.delta < 1)
    throw bad_input("a full layer costs {}, a Δ-layer {}: expected at least 1", costs.full, costs.delta);
  for (long long cost : costs.sparse)
    if (cost < 0) throw bad_input("a sparse layer costs {}: expected at least 0", cost);
  for (const auto& of_layer : costs.listed)
    for (long long cost : of_layer)
      if (cost < 1) throw bad_input("a Δ-layer between its lists costs {}: expected at least 1", cost);
}

// For every layer a Δ-layer's cost by the length of its list.
void check_listed(const LayerCosts& costs, size_t n_layers, size_t n_k) {
  const size_t first = costs.listed.empty() ? 0 : costs.listed[0].size();
  if (costs.listed.size() != n_layers ||
      std::ranges::any_of(costs.listed, [&](const auto& of_layer) { return of_layer.size() != n_k; }))
    throw bad_input("costs of {} Δ-layers for {} lengths of lists, losses of {} for {}", costs.listed.size(),
                    first, n_layers, n_k);
}

void check(const Options& o, int n_layers) {
  if (o.refresh_interval < 1)
    throw bad_input("a list every {} steps: at least 1 is needed", o.refresh_interval);
  if (o.refresh && o.refresh_interval != 1)
    throw bad_input("a list every {} steps, and by a signal: one of them", o.refresh_interval);
  if (o.candidates < 1) throw bad_input("{} candidates: at least 1 is needed", o.candidates);
  if (o.full_layers && (*o.full_layers < 0 || *o.full_layers > n_layers))
    throw bad_input("{} full layers: the model has {}; give 0 to {}, or auto", *o.full_layers, n_layers,
                    n_layers);
  if (o.n_deltas && (*o.n_deltas < 0 || *o.n_deltas > n_layers))
    throw bad_input("{} Δ-layers: expected 0 to {}", *o.n_deltas, n_layers);
  if (!o.delta_layers) return;
  int before = o.full_layers.value_or(0) - 1;
  for (int layer : *o.delta_layers) {
    if (layer <= before || layer >= n_layers)
      throw bad_input("Δ-layer {}: expected ascending layers from {} to {}", layer, o.full_layers.value_or(0),
                      n_layers - 1);
    before = layer;
  }
  if (o.n_deltas && static_cast<size_t>(*o.n_deltas) != o.delta_layers->size())
    throw bad_input("{} Δ-layers are asked for, and {} are named", *o.n_deltas, o.delta_layers->size());
}

std::optional<int> n_deltas(const Options& options) {
  return options.delta_layers ? static_cast<int>(options.delta_layers->size()) : options.n_deltas;
}

// What may be done, for each K by itself or for all at once.
std::vector<Moves> moves_of(const EdgeCosts& edges, const LayerCosts& costs, const Options& options,
                            double min_recall = -1) {
  if (edges.n_layers < 1) throw bad_input("no layers to choose a schedule for");
  check(costs, edges.k_pages.size());
  check(options, edges.n_layers);
  const bool keeps = options.keeps_lists();
  const int n_k = static_cast<int>(edges.k_pages.size());
  if (keeps) check_listed(costs, size_t(edges.n_layers), edges.k_pages.size());
  if (keeps && min_recall >= 0)
    throw bad_input("the recall of lists that serve several steps is not known: work to a budget or a loss");
  Allowed allowed{options.full_layers.value_or(0),
                  options.budgets == Budgets::per_segment,
                  -1,
                  -1,
                  min_recall,
                  options.delta_layers};
  std::vector<Moves> moves;
  for (allowed.list_k = keeps ? 0 : -1; allowed.list_k < (keeps ? n_k : 0); ++allowed.list_k) {
    if (options.budgets != Budgets::one)
      moves.emplace_back(edges, costs, allowed);
    else
      for (allowed.only_k = 0; allowed.only_k < n_k; ++allowed.only_k)
        moves.emplace_back(edges, costs, allowed);
  }
  return moves;
}

config::Schedule to_schedule(const EdgeCosts& edges, const Options& options, const Path& path) {
  config::Schedule schedule;
  schedule.refresh_interval = options.refresh_interval;
  schedule.refresh = options.refresh;
  schedule.layers.resize(edges.n_layers);
  config::LayerPlan* list = nullptr;
  for (int layer = 0; layer < edges.n_layers; ++layer) {
    auto& plan = schedule.layers[layer];
    if (path.choice[layer] == Path::full) continue;
    if (path.choice[layer] == Path::delta) {
      plan.role = config::Role::delta;
      if (path.list_k >= 0) plan.k_pages = edges.k_pages[path.list_k];
      list = &plan;
      continue;
    }
    plan.role = config::Role::sparse;
    plan.k_pages = edges.k_pages[path.choice[layer]];
    list->k_pages = std::max(list->k_pages, plan.k_pages);
    list->l_pages = edges.l_pages[path.l_index[layer]];
  }
  return schedule;
}

std::vector<Candidate> candidates(const EdgeCosts& edges, const Options& options, const Best& best) {
  std::vector<Candidate> found;
  for (const Path& path : best.paths())
    found.push_back({to_schedule(edges, options, path), path.loss, static_cast<long long>(path.cost)});
  return found;
}

}  // namespace

std::vector<Candidate> k_best(const EdgeCosts& edges, const LayerCosts& costs, long long budget,
                              const Options& options) {
  Best best(Goal::loss, options.candidates);
  for (const Moves& moves : moves_of(edges, costs, options))
    search(moves, Goal::loss, static_cast<double>(budget), n_deltas(options), best);
  return candidates(edges, options, best);
}

std::vector<std::optional<Candidate>> pareto(const EdgeCosts& edges, const LayerCosts& costs,
                                             std::span<const long long> budgets, const Options& options) {
  const auto by_k = moves_of(edges, costs, options);
  std::vector<std::optional<Candidate>> found;
  for (long long budget : budgets) {
    Best best(Goal::loss, 1);
    for (const Moves& moves : by_k)
      search(moves, Goal::loss, static_cast<double>(budget), n_deltas(options), best);
    found.emplace_back();
    if (best.full()) found.back() = candidates(edges, options, best)[0];
  }
  return found;
}

std::vector<Candidate> cheapest_with_loss(const EdgeCosts& edges, const LayerCosts& costs, double target,
                                          const Options& options) {
  if (!(target >= 0 && std::isfinite(target)))
    throw bad_input("a summed loss of at most {}: expected 0 or more", target);
  Best best(Goal::cost, options.candidates);
  for (const Moves& moves : moves_of(edges, costs, options))
    search(moves, Goal::cost, target, n_deltas(options), best);
  return candidates(edges, options, best);
}

std::vector<Candidate> cheapest_with_recall(const EdgeCosts& edges, const LayerCosts& costs,
                                            double min_recall, const Options& options) {
  Best best(Goal::cost, options.candidates);
  for (const Moves& moves : moves_of(edges, costs, options, min_recall))
    search_cheapest(moves, n_deltas(options), best);
  return candidates(edges, options, best);
}

std::optional<Candidate> cheapest(const EdgeCosts& edges, const LayerCosts& costs, const Options& options) {
  Best best(Goal::cost, 1);
  for (const Moves& moves : moves_of(edges, costs, options)) search_cheapest(moves, n_deltas(options), best);
  if (!best.full()) return std::nullopt;
  return candidates(edges, options, best)[0];
}

double loss_of(const EdgeCosts& edges, const config::Schedule& schedule) {
  double loss = 0;
  for (const size_t entry : entries_of(edges, schedule))
    loss += entry == EdgeCosts::none ? std::numeric_limits<double>::quiet_NaN() : edges.loss[entry];
  if (!config::keeps_lists(schedule)) return loss;
  for (int layer = 0; layer < edges.n_layers; ++layer) {
    const auto& plan = schedule.layers[layer];
    if (plan.role != config::Role::delta) continue;
    const int k = edges.k_floor(plan.k_pages);
    const int l = k < 0 ? -1 : edges.l_floor(std::min(plan.l_pages, edges.k_pages[k]));
    loss += l < 0 ? std::numeric_limits<double>::quiet_NaN() : edges.loss[edges.at(layer, layer, k, l)];
  }
  return loss;
}

long long attended_by(const StepCosts& costs, const config::Schedule& schedule) {
  long long attended = 0;
  if (config::keeps_lists(schedule)) {
    for (const auto& [first, end] : costs.sequences())
      for (int t = first; t < end; ++t) attended += config::attended_positions(schedule, t, first);
    return attended;
  }
  for (const auto& plan : schedule.layers)
    attended += plan.role == config::Role::sparse ? costs.at(plan.k_pages) : costs.full();
  return attended;
}

}  // namespace deltacal::calib::schedule
