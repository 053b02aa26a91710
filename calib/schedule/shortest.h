// The best schedules at a price, without any limit: shortest paths over Δ-layers, since a segment's sum then
// does not depend on the other segments.
#pragma once
#include <optional>
#include <vector>

#include "calib/schedule/moves.h"

namespace deltacal::calib::schedule {

// What a unit of loss and a unit of cost are worth to each other.
struct Price {
  double per_loss = 1, per_cost = 0;
  double slack = 0;  // more than rounding can amount to in the sum of a schedule; 0 where sums are exact
  double of(double cost, double loss) const { return per_loss * loss + per_cost * cost; }
};

// The best choice of k and L for one set of Δ-layers.
struct Shortest {
  std::vector<int> deltas;  // ascending
  double cost = 0, loss = 0;
};

// The first `candidates` sets by (sum at the price, cost, loss, number of Δ-layers); with exactly `n_deltas`
// Δ-layers if given, and then maybe none.
std::vector<Shortest> shortest(const Moves&, const Price&, std::optional<int> n_deltas, int candidates);

}  // namespace deltacal::calib::schedule
