// Random schedules: what choosing buys is what it gains over these, and they spread a rank correlation over
// good and bad schedules.
#pragma once
#include <vector>

#include "calib/baselines.h"

namespace deltacal::calib::baselines {

inline constexpr int usual_draws = 20;

// `n` different schedules from options.seed: the number of Δ-layers drawn evenly from those that meet the
// budget with a K that was measured, then the layers (the first is options.full_layers), each with the
// largest K that meets the budget. Fewer where there are fewer; empty where none meets it. bad_input for n
// < 1.
std::vector<BaselineSchedule> random_draws(const EdgeCosts&, const StepCosts&, long long budget, int n,
                                           const BaselineOptions&);

}  // namespace deltacal::calib::baselines
