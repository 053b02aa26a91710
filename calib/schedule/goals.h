// From what the user asks to the solver's integers, and to the best schedules.
#pragma once
#include "calib/cost_table.h"
#include "calib/schedule/schedule.h"

namespace deltacal::calib::schedule {

// What a goal's costs are made from. bytes_per_position is read for bytes alone, the table for ms alone.
struct CostSource {
  std::span<const config::StepRange> steps;
  int n_layers = 0;
  long long bytes_per_position = 0;  // of one layer's KV cache: see budget.h
  const CostTable* table = nullptr;
};

// Costs and budget in one unit: nanoseconds for ms, otherwise positions.
struct Costs {
  LayerCosts layers;
  long long budget = 0;  // over all layers and steps; all layers full where the goal has no budget
};

// bad_input if what the goal needs is missing, or the cost table does not cover the steps and k.
Costs costs_for(const Goal&, const CostSource&, std::span<const int> k_pages);

// k_best() for a budget, cheapest_with_recall() or cheapest_with_loss() for a target. Empty if none meets it.
std::vector<Candidate> best_for(const Goal&, const EdgeCosts&, const Costs&, const Options&);

}  // namespace deltacal::calib::schedule
