#include "calib/schedule/goals.h"

#include "core/error.h"

namespace deltacal::calib::schedule {

Costs costs_for(const Goal& goal, const CostSource& from, std::span<const int> k_pages) {
  if (goal.kind == Goal::Kind::ms) {
    if (!from.table) throw bad_input("a budget in ms needs a cost table: give --cost FILE");
    return {layer_costs(*from.table, from.steps, k_pages), ms_budget(*from.table, from.steps, goal.value)};
  }
  const StepCosts steps(from.steps);
  Costs costs{layer_costs(steps, k_pages), 0};
  if (goal.kind == Goal::Kind::bytes) {
    if (from.bytes_per_position < 1)
      throw bad_input("a budget in bytes needs the model's bytes per position");
    costs.budget = bytes_budget(steps, goal.value, from.bytes_per_position);
  } else {
    costs.budget =
        attended_budget(costs.layers, from.n_layers, goal.kind == Goal::Kind::attended ? goal.value : 1);
  }
  return costs;
}

std::vector<Candidate> best_for(const Goal& goal, const EdgeCosts& edges, const Costs& costs,
                                const Options& options) {
  switch (goal.kind) {
    case Goal::Kind::min_recall:
      return cheapest_with_recall(edges, costs.layers, goal.value, options);
    case Goal::Kind::max_kl:
      return cheapest_with_loss(edges, costs.layers, goal.value, options);
    default:
      return k_best(edges, costs.layers, costs.budget, options);
  }
}

}  // namespace deltacal::calib::schedule
