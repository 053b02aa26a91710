// TidalDecode (arXiv 2410.05076): full layers 0 and 1, the pages chosen at layer 2, and once more at one
// later layer.
#pragma once
#include <optional>
#include <vector>

#include "calib/baselines.h"

namespace deltacal::calib::baselines {

// Layers 0 and 1 are full and layer 2 is a Δ-layer; one schedule for each re-selection layer 3..n_layers-2
// and one without, in this order, the latter last. Each has the largest K that meets the budget; those that
// do not meet it, or not with a K that was measured, are missing. bad_input for fewer than 4 layers.
std::vector<BaselineSchedule> tidal_sweep(const EdgeCosts&, const StepCosts&, long long budget, int l_pages);

// The paper sweeps the re-selection layer by the method's own measure. Of the sweep, that with the largest
// summed mean recall, in which layers that attend to everything count 1: schedules with and without a
// re-selection layer have different numbers of sparse layers. Empty if none meets the budget or no recall is
// known.
std::optional<BaselineSchedule> tidal(const EdgeCosts&, const StepCosts&, long long budget, int l_pages);

// Sum over sparse layers of 1 - mean recall, K and L rounded down to the grid; NaN if an edge is unknown.
double summed_recall_lost(const EdgeCosts&, const config::Schedule&);

}  // namespace deltacal::calib::baselines
