#include "calib/bootstrap.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <set>

#include "core/error.h"

namespace deltacal::calib {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// Problems of the resampled quantities: sum and number of their values, missing ones left out.
struct ProblemSums {
  Eigen::MatrixXd sum, count;  // [n_problems, n_quantities]
};

ProblemSums sum_by_problem(const Eigen::Ref<const Eigen::MatrixXd>& values,
                           const std::vector<int>& problem_of_sample, Eigen::Index n_problems) {
  ProblemSums out{Eigen::MatrixXd::Zero(n_problems, values.cols()),
                  Eigen::MatrixXd::Zero(n_problems, values.cols())};
  for (Eigen::Index q = 0; q < values.cols(); ++q)
    for (Eigen::Index s = 0; s < values.rows(); ++s) {
      const double value = values(s, q);
      if (std::isnan(value)) continue;
      out.sum(problem_of_sample[s], q) += value;
      out.count(problem_of_sample[s], q) += 1;
    }
  return out;
}

}  // namespace

uint64_t SplitMix64::next() {
  uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

int SplitMix64::below(int n) {
  assert(n >= 1);
  return static_cast<int>(((next() >> 32) * static_cast<uint64_t>(n)) >> 32);
}

double quantile_in_place(std::span<double> values, double q) {
  assert(!values.empty() && q >= 0 && q <= 1);
  const double position = q * static_cast<double>(values.size() - 1);
  const auto lower = static_cast<std::ptrdiff_t>(position);
  std::nth_element(values.begin(), values.begin() + lower, values.end());
  const double below = values[lower], share = position - static_cast<double>(lower);
  if (share == 0) return below;
  const double above = *std::min_element(values.begin() + lower + 1, values.end());
  return below + share * (above - below);
}

Estimate Estimates::at(Eigen::Index quantity) const {
  Estimate out{mean[quantity], {}, {}, n_samples[quantity], n_problems[quantity]};
  if (!std::isnan(low[quantity])) {
    out.low = low[quantity];
    out.high = high[quantity];
  }
  return out;
}

Resampler::Resampler(std::span<const std::string> problem_of_sample, const Bootstrap& bootstrap)
    : confidence_(bootstrap.confidence) {
  if (bootstrap.resamples < 1)
    throw bad_input("bootstrap: {} resamples, at least 1 is needed (2000 is usual).", bootstrap.resamples);
  if (!(bootstrap.confidence > 0 && bootstrap.confidence < 1))
    throw bad_input("bootstrap: confidence {} is not between 0 and 1 (0.95 is usual).", bootstrap.confidence);
  // Sorted names, so that the order of the samples in a file decides nothing.
  const std::set<std::string> names(problem_of_sample.begin(), problem_of_sample.end());
  problem_of_sample_.reserve(problem_of_sample.size());
  for (const std::string& name : problem_of_sample)
    problem_of_sample_.push_back(static_cast<int>(std::distance(names.begin(), names.find(name))));
  const int n = static_cast<int>(names.size());
  weights_ = Eigen::MatrixXd::Zero(bootstrap.resamples, n);
  SplitMix64 random(bootstrap.seed);
  for (int r = 0; r < bootstrap.resamples; ++r)
    for (int draw = 0; draw < n; ++draw) weights_(r, random.below(n)) += 1;
}

Estimates Resampler::estimate(const Eigen::Ref<const Eigen::MatrixXd>& values) const {
  assert(values.rows() == n_samples());
  const Eigen::Index n = values.cols();
  const ProblemSums by_problem = sum_by_problem(values, problem_of_sample_, weights_.cols());
  Estimates out{Eigen::VectorXd::Constant(n, nan), Eigen::VectorXd::Constant(n, nan),
                Eigen::VectorXd::Constant(n, nan), Eigen::VectorXi(n), Eigen::VectorXi(n)};
  for (Eigen::Index q = 0; q < n; ++q) {
    const double count = by_problem.count.col(q).sum();
    out.n_samples[q] = static_cast<int>(count);
    out.n_problems[q] = static_cast<int>((by_problem.count.col(q).array() > 0).count());
    if (count > 0) out.mean[q] = by_problem.sum.col(q).sum() / count;
  }
  constexpr Eigen::Index block =
      256;  // quantities: bounds the memory at 2 * resamples * block numbers a thread
#pragma omp parallel for schedule(dynamic)
  for (Eigen::Index first = 0; first < n; first += block) {
    const Eigen::Index width = std::min(block, n - first);
    const Eigen::MatrixXd sums = weights_ * by_problem.sum.middleCols(first, width);  // [resamples, width]
    const Eigen::MatrixXd counts =
        weights_ * by_problem.count.middleCols(first, width);  // [resamples, width]
    std::vector<double> means;
    for (Eigen::Index i = 0; i < width; ++i) {
      if (out.n_problems[first + i] < min_problems) continue;
      means.clear();
      for (Eigen::Index r = 0; r < sums.rows();
           ++r)  // a resample without any value of this quantity says nothing
        if (counts(r, i) > 0) means.push_back(sums(r, i) / counts(r, i));
      if (means.empty()) continue;
      out.low[first + i] = quantile_in_place(means, (1 - confidence_) / 2);
      out.high[first + i] = quantile_in_place(means, (1 + confidence_) / 2);
    }
  }
  return out;
}

Estimate Resampler::estimate(std::span<const double> value_of_sample) const {
  const Eigen::Map<const Eigen::MatrixXd> column(value_of_sample.data(),
                                                 static_cast<Eigen::Index>(value_of_sample.size()), 1);
  return estimate(Eigen::Ref<const Eigen::MatrixXd>(column)).at(0);
}

Estimate mean_with_interval(std::span<const double> values, std::span<const std::string> problems,
                            const Bootstrap& bootstrap) {
  assert(values.size() == problems.size());
  return Resampler(problems, bootstrap).estimate(values);
}

std::string no_interval_reason(int n_problems) {
  if (n_problems >= min_problems) return {};
  return fmt::format("fewer than {} problems: {}", min_problems, n_problems);
}

}  // namespace deltacal::calib
