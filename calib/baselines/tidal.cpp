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
  int source = -1;
  for (int layer = 0; layer < static_cast<int>(schedule.layers.size()); ++layer) {
    const auto& plan = schedule.layers[layer];
    if (plan.role == config::Role::delta) source = layer;
    if (plan.role != config::Role::sparse) continue;
    const int k = edges.k_floor(plan.k_pages);
    const int l = k < 0 ? -1 : edges.l_floor(std::min(schedule.layers[source].l_pages, edges.k_pages[k]));
    if (l < 0) return std::numeric_limits<double>::quiet_NaN();
    lost += 1 - edges.recall_mean[edges.at(layer, source, k, l)];
  }
  return lost;
}

}  // namespace deltacal::calib::baselines
