#include "calib/schedule/schedule.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "calib/schedule/moves.h"
#include "calib/schedule/search.h"
#include "core/error.h"

namespace deltacal::calib::schedule {
namespace {

void check(const EdgeCosts& edges, const LayerCosts& costs, const Options& options) {
  if (edges.n_layers < 1) throw bad_input("no layers to choose a schedule for");
  if (costs.sparse.size() != edges.k_pages.size())
    throw bad_input("costs for {} values of K, losses for {}", costs.sparse.size(), edges.k_pages.size());
  if (options.candidates < 1) throw bad_input("{} candidates: at least 1 is needed", options.candidates);
  if (options.full_layers && (*options.full_layers < 0 || *options.full_layers > edges.n_layers))
    throw bad_input("{} full layers: the model has {}; give 0 to {}, or auto", *options.full_layers,
                    edges.n_layers, edges.n_layers);
}

config::Schedule to_schedule(const EdgeCosts& edges, const Path& path) {
  config::Schedule schedule;
  schedule.layers.resize(edges.n_layers);
  config::LayerPlan* list = nullptr;
  for (int layer = 0; layer < edges.n_layers; ++layer) {
    auto& plan = schedule.layers[layer];
    if (path.choice[layer] == Path::full) continue;
    if (path.choice[layer] == Path::delta) {
      plan.role = config::Role::delta;
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

// `search(moves, best)` for every K by itself, or for all at once.
template <class Find>
std::vector<Candidate> solve(const EdgeCosts& edges, const LayerCosts& costs, const Options& options,
                             double min_recall, Goal goal, Find search) {
  check(edges, costs, options);
  Best best(goal, options.candidates);
  const int n_searches = options.uniform_k ? static_cast<int>(edges.k_pages.size()) : 1;
  for (int i = 0; i < n_searches; ++i)
    search(Moves(edges, costs, options.full_layers.value_or(0), {options.uniform_k ? i : -1, min_recall}),
           best);
  std::vector<Candidate> candidates;
  for (const Path& path : best.paths())
    candidates.push_back({to_schedule(edges, path), path.loss, static_cast<long long>(path.cost)});
  return candidates;
}

}  // namespace

std::vector<Candidate> k_best(const EdgeCosts& edges, const LayerCosts& costs, long long budget,
                              const Options& options) {
  return solve(edges, costs, options, -1, Goal::loss, [&](const Moves& moves, Best& best) {
    search(moves, Goal::loss, static_cast<double>(budget), std::nullopt, best);
  });
}

std::vector<Candidate> cheapest_with_recall(const EdgeCosts& edges, const LayerCosts& costs,
                                            double min_recall, const Options& options) {
  return solve(edges, costs, options, min_recall, Goal::cost,
               [&](const Moves& moves, Best& best) { search_cheapest(moves, std::nullopt, best); });
}

Candidate cheapest(const EdgeCosts& edges, const LayerCosts& costs, const Options& options) {
  Options first = options;
  first.candidates = 1;
  return solve(edges, costs, first, -1, Goal::cost,
               [](const Moves& moves, Best& best) { search_cheapest(moves, std::nullopt, best); })
      .front();
}

double loss_of(const EdgeCosts& edges, const config::Schedule& schedule) {
  double loss = 0;
  int source = -1;
  for (int layer = 0; layer < static_cast<int>(schedule.layers.size()); ++layer) {
    const auto& plan = schedule.layers[layer];
    if (plan.role == config::Role::delta) source = layer;
    if (plan.role != config::Role::sparse) continue;
    const int k = edges.k_floor(plan.k_pages);
    const int l = k < 0 ? -1 : edges.l_floor(std::min(schedule.layers[source].l_pages, edges.k_pages[k]));
    loss += l < 0 ? std::numeric_limits<double>::quiet_NaN() : edges.loss[edges.at(layer, source, k, l)];
  }
  return loss;
}

long long attended_by(const StepCosts& costs, const config::Schedule& schedule) {
  long long attended = 0;
  for (const auto& plan : schedule.layers)
    attended += plan.role == config::Role::sparse ? costs.at(plan.k_pages) : costs.full();
  return attended;
}

}  // namespace deltacal::calib::schedule
