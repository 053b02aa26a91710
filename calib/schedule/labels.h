// The label-setting search behind schedule.h: partial schedules, extended layer by layer.
//
// A label is a partial schedule with its cost and loss. Two labels of one state (same last delta layer, same
// L) have the same completions, so a label is dropped if
//   - one of the same set of Δ-layers is no worse in cost and loss, or
//   - labels of `candidates` other sets are no worse in both: each of their completions is at least as good,
//   and
//     they end in different sets; or
//   - no completion meets the budget, or none loses less than the threshold (bounds.h).
// The threshold grows from the relaxation's optimum until `candidates` sets are found below it: then nothing
// dropped could be among them. Additions of doubles are monotone, so rounding keeps the order of the first
// two rules; the bound has a slack of 1e-9 of the largest loss.
#pragma once
#include <vector>

#include "calib/schedule/moves.h"

namespace deltacal::calib::schedule {

// A finished schedule: for each layer what it is.
struct Path {
  static constexpr int full = -1, delta = -2;
  std::vector<int> choice;   // [n_layers] full, delta, or the k index of a sparse layer
  std::vector<int> l_index;  // [n_layers] of the list used by a sparse layer; otherwise -1
  long long cost = 0;
  double loss = 0;
  std::vector<int> deltas() const;  // indices of the delta layers
};

// Best first by (loss, cost, number of Δ-layers), each of another set of Δ-layers; at most `candidates`.
std::vector<Path> least_loss(const Moves&, long long budget, int candidates);

// Best first by (cost, loss, number of Δ-layers).
std::vector<Path> least_cost(const Moves&, int candidates);

}  // namespace deltacal::calib::schedule
