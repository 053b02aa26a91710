#include "calib/resampled.h"

#include <cmath>
#include <vector>

#include "core/error.h"

namespace deltacal::calib {
namespace {

Eigen::VectorXd means_of(const Eigen::VectorXd& sum, const Eigen::VectorXd& count) {
  return sum.array() / count.array();  // 0 / 0 is NaN: a missing mean
}

}  // namespace

ResampledMeans::ResampledMeans(const Resampler& resampler, const Eigen::Ref<const Eigen::MatrixXd>& values)
    : resampler_(resampler) {
  if (values.rows() != resampler.n_samples())
    throw bad_input("figures of {} samples, problems of {}", values.rows(), resampler.n_samples());
  sum_ = count_ = Eigen::MatrixXd::Zero(resampler.n_problems(), values.cols());
  for (Eigen::Index s = 0; s < values.rows(); ++s) {
    const int problem = resampler.problem_of_sample()[s];
    bool any = false;
    for (Eigen::Index q = 0; q < values.cols(); ++q) {
      if (std::isnan(values(s, q))) continue;
      any = true;
      sum_(problem, q) += values(s, q);
      count_(problem, q) += 1;
    }
    n_samples_ += any;
  }
  n_problems_ = static_cast<int>((count_.array() > 0).rowwise().any().count());
}

Eigen::VectorXd ResampledMeans::of_all() const {
  return means_of(sum_.colwise().sum().transpose(), count_.colwise().sum().transpose());
}

Eigen::VectorXd ResampledMeans::of(int resample) const {
  const Eigen::VectorXd times = resampler_.weights().row(resample).transpose();
  return means_of(sum_.transpose() * times, count_.transpose() * times);
}

Estimate estimate(const ResampledMeans& means, const Bootstrap& bootstrap, const Figure& figure) {
  Estimate out{figure(means.of_all()), {}, {}, means.n_samples(), means.n_problems()};
  if (means.n_problems() < min_problems || std::isnan(out.mean)) return out;
  std::vector<double> values;
  for (int r = 0; r < means.n_resamples(); ++r)
    if (const double value = figure(means.of(r)); !std::isnan(value)) values.push_back(value);
  if (values.empty()) return out;
  out.low = quantile_in_place(values, (1 - bootstrap.confidence) / 2);
  out.high = quantile_in_place(values, (1 + bootstrap.confidence) / 2);
  return out;
}

}  // namespace deltacal::calib
