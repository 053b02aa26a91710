// How sure the choice of Δ-layers is: solved anew for resamples of the calibration problems (method.md,
// "Statistics").
#pragma once
#include <Eigen/Core>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "calib/bootstrap.h"
#include "config/schedule.h"

namespace deltacal::calib {

inline constexpr int stability_resamples = 200;  // each is one run of the solver

// From a table of losses in the layout of EdgeCosts::loss to the schedule of least loss; empty if none meets
// the budget.
using SolveLosses = std::function<std::optional<config::Schedule>(std::span<const double> loss)>;

struct Stability {
  // [n_layers] of the resamples in which the layer is a Δ-layer; empty without resamples
  std::vector<double> share;
  int resamples = 0;   // those with a schedule
  int unsolved = 0;    // those without
  std::string reason;  // why there is no share; empty where there is one
};

// loss [n_samples, n_edges] of each sample, in the layout of EdgeCosts::loss, NaN where unknown; problems
// [n_samples]. A resample's table is the mean over its samples, as the whole set's is over all. One after
// another, in the order of the resamples. bad_input for sizes that do not fit, or schedules of different
// numbers of layers.
Stability stability(const Eigen::Ref<const Eigen::MatrixXd>& loss, std::span<const std::string> problems,
                    const Bootstrap&, const SolveLosses&);

}  // namespace deltacal::calib
