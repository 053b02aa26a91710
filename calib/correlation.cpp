#include "calib/correlation.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "calib/page_order.h"

namespace deltacal::calib {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// x' x [n_layers, n_layers], computing one half of it.
Eigen::MatrixXd products_of_columns(const Eigen::MatrixXd& x) {
  Eigen::MatrixXd out = Eigen::MatrixXd::Zero(x.cols(), x.cols());
  out.selfadjointView<Eigen::Lower>().rankUpdate(x.transpose());
  out.triangularView<Eigen::StrictlyUpper>() = out.transpose();
  return out;
}

// Cosines of the columns of `x` [n_pages, n_layers]; undefined where a column is all zero or holds a value
// that is not finite. Adds the defined ones to `sum` and 1 to `count`.
void add_cosines(const Eigen::MatrixXd& x, Eigen::MatrixXd& sum, Eigen::MatrixXd& count) {
  const Eigen::MatrixXd products = products_of_columns(x);
  for (Eigen::Index m = 0; m < products.cols(); ++m)
    for (Eigen::Index l = 0; l < products.rows(); ++l) {
      const double norms = std::sqrt(products(l, l)) * std::sqrt(products(m, m));
      if (!(norms > 0) || !std::isfinite(norms)) continue;
      sum(l, m) += std::clamp(products(l, m) / norms, -1.0, 1.0);
      count(l, m) += 1;
    }
}

// Of two ascending lists of pages, not both empty.
double jaccard(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  std::size_t both = 0;
  for (auto i = a.begin(), j = b.begin(); i != a.end() && j != b.end();) {
    if (*i == *j) ++both;
    const bool step_i = *i <= *j, step_j = *j <= *i;
    i += step_i;
    j += step_j;
  }
  return static_cast<double>(both) / static_cast<double>(a.size() + b.size() - both);
}

Eigen::MatrixXd mean_of(const Eigen::MatrixXd& sum, const Eigen::MatrixXd& count) {
  return (count.array() > 0).select(sum.array() / count.array().max(1), nan);
}

}  // namespace

CorrelationSums::CorrelationSums(const Budget& budget, int n_layers)
    : budget_(budget), n_layers_(n_layers), total_(zeros()) {}

CorrelationSums::Measures CorrelationSums::zeros() const {
  const Measure zero{Eigen::MatrixXd::Zero(n_layers_, n_layers_),
                     Eigen::MatrixXd::Zero(n_layers_, n_layers_)};
  return {zero, zero, zero};
}

void CorrelationSums::add(const StepMaps& maps) {
  constexpr int slice =
      16;  // steps summed by one thread: fixed, so the result does not depend on how many there are
  const int n_slices = (maps.n_steps + slice - 1) / slice;
  std::vector<Measures> sums(n_slices, zeros());
#pragma omp parallel for schedule(dynamic)
  for (int i = 0; i < n_slices; ++i)
    for (int s = i * slice; s < std::min((i + 1) * slice, maps.n_steps); ++s)
      if (maps.seen(s) > budget_.k_pages) add_step(maps, s, sums[i]);
  for (const Measures& part : sums)
    for (const auto measure : {&Measures::cosine, &Measures::pearson, &Measures::jaccard}) {
      (total_.*measure).sum += (part.*measure).sum;
      (total_.*measure).count += (part.*measure).count;
    }
}

void CorrelationSums::add_step(const StepMaps& maps, int step, Measures& sums) const {
  const int n_pages = maps.seen(step);
  Eigen::MatrixXd scores(n_pages, n_layers_);
  PageOrder order;
  std::vector<std::vector<int32_t>> chosen(n_layers_);
  for (int l = 0; l < n_layers_; ++l) {
    const auto row = maps.score_of(l, step);
    std::copy(row.begin(), row.end(), scores.col(l).data());
    order.rank(row, budget_.k_pages);
    order.list(budget_.k_pages, budget_.l_pages, chosen[l]);
    std::ranges::sort(chosen[l]);
  }
  add_cosines(scores, sums.cosine.sum, sums.cosine.count);
  for (int l = 0; l < n_layers_; ++l)
    for (int m = 0; m <= l; ++m) {
      const double overlap = jaccard(chosen[l], chosen[m]);
      sums.jaccard.sum(l, m) += overlap;
      if (m < l) sums.jaccard.sum(m, l) += overlap;
    }
  sums.jaccard.count.array() += 1;
  for (int l = 0; l < n_layers_; ++l) {
    const double least = scores.col(l).minCoeff(), most = scores.col(l).maxCoeff();
    if (least == most)
      scores.col(l).setZero();  // exactly: subtracting a rounded mean would leave noise that correlates
    else
      scores.col(l).array() -= scores.col(l).mean();
  }
  add_cosines(scores, sums.pearson.sum, sums.pearson.count);
}

SampleCorrelation CorrelationSums::finish() const {
  return {mean_of(total_.cosine.sum, total_.cosine.count), mean_of(total_.pearson.sum, total_.pearson.count),
          mean_of(total_.jaccard.sum, total_.jaccard.count)};
}

}  // namespace deltacal::calib
