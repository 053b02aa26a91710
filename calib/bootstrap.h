// Percentile bootstrap over problems: the one source of intervals in this project.
//
// A resample draws as many problems as there are, with replacement, each with all of its samples (traces);
// the estimate of a resample is the mean over the drawn samples, pooled. The interval lies between the
// percentiles (1 - confidence) / 2 and (1 + confidence) / 2 of the estimates. (Efron and Tibshirani, An
// Introduction to the Bootstrap, 1993, chapters 8 and 13.) Steps are never resampled: those of one trace are
// not independent.
//
// NaN is a missing value: it counts in no mean. With fewer than `min_problems` problems that have a value
// there is a mean and no interval. The order of the samples does not matter.
#pragma once
#include <Eigen/Core>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace deltacal::calib {

inline constexpr int min_problems = 4;

struct Bootstrap {
  int resamples = 2000;
  uint64_t seed = 0;
  double confidence = 0.95;
};

// A mean in the unit of its values. `low` and `high` are both there or both empty.
struct Estimate {
  double mean = 0;  // NaN where all values are missing
  std::optional<double> low, high;
  int n_samples = 0, n_problems = 0;  // those with a value
};

// Estimates of many quantities; NaN in `low` and `high` where there is no interval.
struct Estimates {
  Eigen::VectorXd mean, low, high;        // [n_quantities]
  Eigen::VectorXi n_samples, n_problems;  // [n_quantities] those with a value
  Estimate at(Eigen::Index quantity) const;
};

// The resamples of a set of problems, drawn once: quantities estimated with one of them are comparable,
// resample by resample. bad_input for fewer than 1 resample or a confidence outside ]0, 1[.
class Resampler {
 public:
  Resampler(std::span<const std::string> problem_of_sample, const Bootstrap&);
  // values [n_samples, n_quantities]
  Estimates estimate(const Eigen::Ref<const Eigen::MatrixXd>& values) const;
  Estimate estimate(std::span<const double> value_of_sample) const;
  int n_samples() const { return static_cast<int>(problem_of_sample_.size()); }
  int n_problems() const { return static_cast<int>(weights_.cols()); }
  const std::vector<int>& problem_of_sample() const {
    return problem_of_sample_;
  }  // [n_samples] column of weights()
  // How often each resample holds each problem (and so each of its samples).
  const Eigen::MatrixXd& weights() const { return weights_; }  // [resamples, n_problems]

 private:
  double confidence_;
  std::vector<int> problem_of_sample_;  // [n_samples]
  Eigen::MatrixXd weights_;             // [resamples, n_problems]
};

// For one quantity. `values` and `problems` have one entry a sample.
Estimate mean_with_interval(std::span<const double> values, std::span<const std::string> problems,
                            const Bootstrap&);

// Why there is no interval, for the artefacts: "fewer than 4 problems: 3"; empty where there is one.
std::string no_interval_reason(int n_problems);

// The quantile q (0..1) of `values` with linear interpolation between order statistics; reorders them. Not
// empty.
double quantile_in_place(std::span<double> values, double q);

// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): the same numbers from a seed on every platform, which the
// distributions of the standard library do not promise.
class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}
  uint64_t next();
  int below(int n);  // uniform in 0..n-1 (to 1 in 2^32 / n), n >= 1

 private:
  uint64_t state_;
};

}  // namespace deltacal::calib
