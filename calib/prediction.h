// How far the predicted KL of a schedule can be trusted: does it order schedules as the measured KL does, by
// what factor is it off, and does the factor depend on the number of Δ-layers (method.md, "Predicted KL of an
// edge": terms across layers and positions are left out, so a factor is expected)?
#pragma once
#include <Eigen/Core>
#include <span>
#include <string>
#include <vector>

#include "calib/rank_correlation.h"

namespace deltacal::calib {

// Below this, a prediction orders schedules too loosely to choose by it alone.
inline constexpr double trusted_rank_correlation = 0.8;

// log(measured) - log(scale * predicted) of the schedules with so many Δ-layers: above 0 is worse than
// predicted.
struct PredictionResidual {
  int delta_layers = 0;
  int n_schedules = 0;
  double mean = 0;
  double least = 0, largest = 0;
};

struct Prediction {
  RankCorrelation rank;                       // of predicted with measured KL
  Estimate scale;                             // measured over predicted
  std::vector<PredictionResidual> residuals;  // by number of Δ-layers, ascending
  int n_schedules = 0;                        // with both figures above 0: those of scale and residuals
  int n_left_out = 0;
  std::string warning;             // empty where the prediction can be relied on
  std::string no_interval_reason;  // empty where there are intervals
};

// predicted [n_schedules] and measured [n_samples, n_schedules] KL in nats a token, delta_layers
// [n_schedules] their number, problems [n_samples]. A schedule's measured KL is its mean over samples. The
// scale is the least-squares line through the origin of log-log space, exp(mean over schedules of log
// measured - log predicted); a schedule with a missing KL, or one that is not above 0, has no logarithm and
// is left out of it. Scale and rank correlation are taken anew in each resample of the problems. bad_input
// for sizes that do not fit.
Prediction check_prediction(std::span<const double> predicted,
                            const Eigen::Ref<const Eigen::MatrixXd>& measured,
                            std::span<const int> delta_layers, std::span<const std::string> problems,
                            const Bootstrap&);

}  // namespace deltacal::calib
