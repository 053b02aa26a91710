// What others would choose at the same cost: baselines for every table.
//
// A baseline names its Δ-layers for a given number m of them; then one K serves all sparse layers. Within a
// budget each m gets the largest K that meets it (any integer, not only the grid's), and the m whose schedule
// has the least summed loss is taken, so that each baseline is as good as its idea allows. Losses are known
// on the grid of K and L alone: between grid values that of the next smaller one counts, which is no less.
//
// Layers below `full_layers` are full and layer `full_layers` is always the first Δ-layer, so that no sparse
// layer is without a list. A Δ-layer that would serve no sparse layer is written as full.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "calib/budget.h"
#include "calib/edges.h"
#include "config/schedule.h"

namespace deltacal::calib {

enum class Baseline {
  cosine_peaks,  // where attention changes most from layer to layer (DELTA, arXiv 2510.09883)
  uniform,       // evenly spaced
  random,        // drawn from the seed
};
std::string name_of(Baseline);  // "cosine-peaks", as on the command line

// m Δ-layers each, ascending; 1 <= m <= n_layers - full_layers.
// The m - 1 highest local peaks of drift [n_layers] above layer full_layers; fewer where there are fewer. A
// peak is above its left neighbour and not below its right one; missing values (NaN) are never peaks, nor is
// the last layer, which has nothing to serve.
std::vector<int> cosine_peaks(std::span<const double> drift, int full_layers, int m);
// full_layers + floor(i (n_layers - full_layers) / m).
std::vector<int> uniform_layers(int n_layers, int full_layers, int m);
// m - 1 layers after the first, drawn without repetition; those of m are among those of m + 1.
std::vector<int> random_layers(int n_layers, int full_layers, int m, uint64_t seed);

// The schedule with these Δ-layers and one K and L.
config::Schedule with_one_k(int n_layers, int full_layers, std::span<const int> deltas, int k_pages,
                            int l_pages);

struct BaselineOptions {
  int full_layers = 2;
  int l_pages = 4;  // K is at least this
  uint64_t seed = 0;
};
struct BaselineSchedule {
  config::Schedule schedule;
  double loss = 0;         // NaN where K lies below the grid
  long long attended = 0;  // positions, over the steps of the costs
};
// These Δ-layers (ascending, from full_layers on) with the largest K that meets the budget; empty if not even
// K = max(L, least_k) does, or if nothing would be sparse.
std::optional<BaselineSchedule> with_largest_k(const EdgeCosts&, const StepCosts&, long long budget,
                                               std::span<const int> deltas, const BaselineOptions&,
                                               int least_k = 1);
// The largest K >= least with n_sparse layers of it within `rest` positions; 0 if there is none.
int largest_k(const StepCosts&, int n_sparse, long long rest, int least);
// Less loss, then fewer positions; a known loss before an unknown one.
bool better(const BaselineSchedule&, const BaselineSchedule&);

// Empty if no m and K meet the budget. `drift` [n_layers] is read by cosine_peaks alone.
std::optional<BaselineSchedule> baseline(Baseline, const EdgeCosts&, const StepCosts&, long long budget,
                                         std::span<const double> drift, const BaselineOptions&);

// The policy `streaming` at the cost of a schedule: attention sinks and the recent window (StreamingLLM,
// arXiv 2309.17453).
struct StreamingPages {
  // [n_layers] pages each layer attends to, the first page and the newest pages - 1; 0: all pages. At
  // least 2. Counts of two layers differ by at most one, the larger ones first.
  std::vector<int> pages;
  long long attended = 0;  // positions, over the steps of the costs
  double excess = 0;  // attended / that of the schedule - 1, >= 0: above 0.01 the comparison needs a warning
};
// The cheapest window that attends to no fewer positions than `reference` does. The full layers that
// `reference` begins with are full here too. `attended`: the positions that it attends to over the steps of the
// costs, where a run alone tells them (adaptive refresh).
StreamingPages streaming_pages(const StepCosts&, const config::Schedule& reference,
                               std::optional<long long> attended = {});

}  // namespace deltacal::calib
