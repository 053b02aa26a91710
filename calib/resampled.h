// Intervals of figures that are no means: a correlation, a fitted scale, a chosen layer. The means that they
// are made from are taken anew in every resample of the problems, and the figure from those.
#pragma once
#include <Eigen/Core>
#include <functional>

#include "calib/bootstrap.h"

namespace deltacal::calib {

// Means over samples, of all samples or of one resample; missing values (NaN) count in none, and a mean
// without values is NaN.
class ResampledMeans {
 public:
  // values [n_samples, n_quantities], in the order of the resampler's samples; bad_input for another number
  // of rows. The resampler must outlive this.
  ResampledMeans(const Resampler&, const Eigen::Ref<const Eigen::MatrixXd>& values);
  Eigen::VectorXd of_all() const;          // [n_quantities]
  Eigen::VectorXd of(int resample) const;  // [n_quantities]
  int n_resamples() const { return static_cast<int>(resampler_.weights().rows()); }
  int n_samples() const { return n_samples_; }    // with any value
  int n_problems() const { return n_problems_; }  // with any value

 private:
  const Resampler& resampler_;
  Eigen::MatrixXd sum_, count_;  // [n_problems, n_quantities]
  int n_samples_ = 0, n_problems_ = 0;
};

// From means [n_quantities] to the figure; NaN where it is not defined.
using Figure = std::function<double(const Eigen::VectorXd& means)>;

// `mean` is the figure of all samples. The interval is that of its values over the resamples in which it is
// defined; none with fewer than `min_problems` problems.
Estimate estimate(const ResampledMeans&, const Bootstrap&, const Figure&);

}  // namespace deltacal::calib
