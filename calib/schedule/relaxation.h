// Lower bounds on what a schedule, or the rest of one, must cost and lose, by Lagrangian relaxation.
//
// At a price, per_loss * loss + per_cost * cost is a sum over layers without a limit: its minimum over all
// completions is a shortest path over Δ-layers. No schedule of cost C and loss D exists where that minimum is
// above per_loss * D + per_cost * C. (Handler and Zang, A dual algorithm for the constrained shortest path
// problem, Networks 10, 1980.) A few prices around the best one for the whole problem are kept.
#pragma once
#include <optional>
#include <span>
#include <vector>

#include "calib/schedule/shortest.h"

namespace deltacal::calib::schedule {

// What the solver makes as small as it can; the other one is limited.
enum class Goal { loss, cost };

struct Limits {
  double cost = 0, loss = 0;
};

// Sums at each price: [n_prices] everywhere.
using Sums = std::vector<double>;

class Relaxation {
 public:
  // Schedules with any number of Δ-layers, or with exactly `n_deltas`.
  Relaxation(const Moves&, std::vector<Price>, std::optional<int> n_deltas);

  const std::vector<Price>& prices() const { return prices_; }
  // The least sums of ...
  // ... one layer: sparse in this mode, or full
  std::span<const double> layer(int layer, int source, int mode) const;
  // ... Δ-layer `source` and the layers up to `end` - 1, one of them sparse at least; infinite if none can be
  std::span<const double> segment(int source, int end) const;
  // ... Δ-layer `source` and all that follows, with exactly `left` more Δ-layers if their number is given
  std::span<const double> rest(int source, int left) const;

 private:
  void add_segments(const Moves&, int source);
  void add_rest(const Moves&);
  std::span<const double> row(const std::vector<double>& table, size_t index) const {
    return std::span(table).subspan(index * prices_.size(), prices_.size());
  }

  int n_layers_, n_modes_;
  std::optional<int> n_deltas_;
  std::vector<Price> prices_;
  std::vector<double> layer_;    // [n_layers source, n_modes, n_layers, n_prices]
  std::vector<double> segment_;  // [n_layers source, n_layers + 1 end, n_prices]
  std::vector<double> rest_;     // [n_deltas or 1, n_layers source, n_prices]
};

// Loss alone, cost alone, and prices around the one whose bound on the whole problem is highest. `limit` is
// one of cost for Goal::loss, of loss for Goal::cost.
std::vector<Price> prices_for(const Moves&, Goal, double limit, std::optional<int> n_deltas);

// The least loss (or cost) of a schedule within `limit` for all that these sums allow; infinite if none is.
double bound(std::span<const Price>, std::span<const double> sums, Goal, double limit);

// Whether these sums leave no schedule within both limits, or none better than both by more than rounding.
bool none_within(std::span<const Price>, std::span<const double> sums, Limits);
bool none_better(std::span<const Price>, std::span<const double> sums, Limits);

}  // namespace deltacal::calib::schedule
