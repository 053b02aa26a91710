#include "calib/baselines/tidal.h"

#include <cmath>
#include <limits>

#include "core/error.h"

namespace deltacal::calib::baselines {

std::vector<BaselineSchedule> tidal_sweep(const EdgeCosts& edges, const StepCosts& costs, long long budget,
                                          int l_pages) {
  constexpr int first = 2;  // the layer that selects; those below are full
  if (edges.n_layers < 4) throw bad_input("tidal: needs at least 4 layers, the model has {}", edges.n_layers);
  const BaselineOptions options{first, l_pages, 0};
  const int least_k = edges.k_pages.empty() ? 1 : edges.k_pages.front();
  std::vector<BaselineSchedule> sweep;
  const auto add = [&](const std::vector<int>& deltas) {
    if (auto found = with_largest_k(edges, costs, budget, deltas, options, least_k))
      sweep.push_back(std::move(*found));
  };
  for (int again = first + 1; again <= edges.n_layers - 2; ++again) add({first, again});
  add({first});
  return sweep;
}

std::optional<BaselineSchedule> tidal(const EdgeCosts& edges, const StepCosts& costs, long long budget,
                                      int l_pages) {
  std::optional<BaselineSchedule> best;
  double least = std::numeric_limits<double>::infinity();
  for (auto& found : tidal_sweep(edges, costs, budget, l_pages))
    if (const double lost = summed_recall_lost(edges, found.schedule); lost < least) {
      least = lost;
      best = std::move(found);
    }
  return best;
}

double summed_recall_lost(const EdgeCosts& edges, const config::Schedule& schedule) {
  double lost = 0;
  for (const std::size_t entry : entries_of(edges, schedule))
    lost +=
        entry == EdgeCosts::none ? std::numeric_limits<double>::quiet_NaN() : 1 - edges.recall_mean[entry];
  return lost;
}

}  // namespace deltacal::calib::baselines
