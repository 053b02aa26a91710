// How well one list orders what another measures: rank correlations, and that of a surrogate with the
// measured NLL gap (method.md, "Choosing a schedule": a surrogate is not the goal).
#pragma once
#include <Eigen/Core>
#include <span>
#include <string>

#include "calib/bootstrap.h"

namespace deltacal::calib {

// Both leave out pairs with a missing value (NaN), and are NaN with fewer than two pairs or where one list is
// constant. bad_input for lists of different lengths.

// Pearson's correlation of the ranks; equal values share the mean of their ranks (Spearman 1904).
double spearman(std::span<const double> a, std::span<const double> b);

// tau-b: pairs in the same order minus pairs in opposite order, over the geometric mean of the numbers of
// pairs untied in a and in b (Kendall 1945). Quadratic in the length.
double kendall(std::span<const double> a, std::span<const double> b);

struct RankCorrelation {
  Estimate spearman;    // -1..1, with its interval
  double kendall = 0;   // tau-b, of all samples
  int n_schedules = 0;  // those with a surrogate and a gap
};

// surrogate [n_schedules] (the larger, the worse), gap [n_samples, n_schedules] in nats a token, problems
// [n_samples] of the development samples. The gap of a schedule is its mean over samples, taken anew in each
// resample of the problems; the schedules are not resampled, so the interval speaks of these schedules on
// other problems. bad_input for sizes that do not fit.
RankCorrelation rank_correlation(std::span<const double> surrogate,
                                 const Eigen::Ref<const Eigen::MatrixXd>& gap,
                                 std::span<const std::string> problems, const Bootstrap&);

}  // namespace deltacal::calib
