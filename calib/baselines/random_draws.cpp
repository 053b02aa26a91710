#include "calib/baselines/random_draws.h"

#include <algorithm>

#include "calib/bootstrap.h"
#include "core/error.h"

namespace deltacal::calib::baselines {

std::vector<BaselineSchedule> random_draws(const EdgeCosts& edges, const StepCosts& costs, long long budget,
                                           int n, const BaselineOptions& options) {
  if (n < 1) throw bad_input("{} random schedules: at least 1 is needed", n);
  const int least_k = edges.k_pages.empty() ? 1 : edges.k_pages.front();
  std::vector<int> feasible;  // numbers of Δ-layers
  for (int m = 1; m < edges.n_layers - options.full_layers; ++m)
    if (with_largest_k(edges, costs, budget, uniform_layers(edges.n_layers, options.full_layers, m), options,
                       least_k))
      feasible.push_back(m);
  std::vector<BaselineSchedule> draws;
  SplitMix64 random(options.seed);
  const int tries = feasible.empty() ? 0 : 50 * n;  // then what is new is too rare to wait for
  for (int i = 0; i < tries && static_cast<int>(draws.size()) < n; ++i) {
    const int m = feasible[random.below(static_cast<int>(feasible.size()))];
    const auto deltas = random_layers(edges.n_layers, options.full_layers, m, random.next());
    auto found = with_largest_k(edges, costs, budget, deltas, options, least_k);
    const bool seen = !found || std::ranges::any_of(draws, [&](const auto& draw) {
      return draw.schedule == found->schedule;
    });
    if (!seen) draws.push_back(std::move(*found));
  }
  return draws;
}

}  // namespace deltacal::calib::baselines
