// The best schedule with given Δ-layers: choose a mode for each segment and k for each layer.
//
// Partial schedules are extended layer by layer; one is dropped where another of the same mode is no worse in
// cost and loss, or where the relaxation leaves no completion within the limits.
#pragma once
#include <optional>

#include "calib/schedule/relaxation.h"

namespace deltacal::calib::schedule {

// Bounds for the schedules of one set of Δ-layers.
class OneSet {
 public:
  // `deltas` ascending.
  OneSet(const Moves&, const Relaxation&, std::vector<int> deltas);

  const std::vector<int>& deltas() const { return deltas_; }
  int source(int layer) const { return source_[layer]; }  // last Δ-layer at or before it; -1: none
  // Least sums of layers `layer`.. in this mode of its segment; mode n_modes: not chosen yet.
  std::span<const double> rest(int layer, int mode) const {
    return std::span(rest_).subspan((static_cast<size_t>(layer) * (n_modes_ + 1) + mode) * n_prices_,
                                    n_prices_);
  }

  // The least loss, then cost, within the limits (Goal::cost: cost, then loss); empty if there is none.
  std::optional<Path> best(Goal, Limits) const;

 private:
  void add_rest();
  const Moves& moves_;
  const Relaxation& relaxation_;
  std::vector<int> deltas_;
  size_t n_modes_, n_prices_;
  std::vector<int> source_;   // [n_layers]
  std::vector<double> rest_;  // [n_layers + 1, n_modes + 1, n_prices]
};

}  // namespace deltacal::calib::schedule
