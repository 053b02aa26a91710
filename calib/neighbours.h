// Schedules one step away from another, for the local search of re-ranking.
#pragma once
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "calib/schedule/schedule.h"
#include "config/schedule.h"

namespace deltacal::calib {

struct Neighbour {
  // "delta 5 to 6", "delta 9 more", "delta 9 less", "k 16 to 8 at 4, 16 to 32 at 7"
  std::string change;
  config::Schedule schedule;
};

struct NeighbourRules {
  int full_layers = 2;       // no Δ-layer below
  std::vector<int> k_pages;  // the grid, ascending
  long long budget = 0;      // positions
  // Positions attended, in the unit of the budget.
  std::function<long long(const config::Schedule&)> attended;
  // The best k and L for a set of Δ-layers (ascending) within the budget; empty if there are none. Without
  // this function Δ-layers stay where they are.
  std::function<std::optional<config::Schedule>(std::span<const int> deltas)> solve_for;
};

// All within the budget, none equal to `schedule` or to each other, in this order: each Δ-layer moved by -2,
// -1, 1 and 2; one Δ-layer more; one less (k solved again for these); and pages moved between two sparse
// layers, k one step of the grid down in one and up in the other, all else as it is. The last layer is never
// a Δ-layer: it would serve none. All keep the page score.
std::vector<Neighbour> neighbours_of(const config::Schedule&, const NeighbourRules&);

// The same schedule with k pages at sparse layer `layer`, the lists as long as their layers need.
config::Schedule with_k(config::Schedule, int layer, int k_pages);

// `solve_for` by the exact solver: the schedule of least loss whose Δ-layers are among `deltas`, and whose
// layers in `deltas` attend to everything; one that serves no layer well is full. Empty if none meets the
// budget.
std::optional<config::Schedule> solve_with_deltas(const EdgeCosts&, const LayerCosts&, long long budget,
                                                  std::span<const int> deltas, schedule::Options);

}  // namespace deltacal::calib
