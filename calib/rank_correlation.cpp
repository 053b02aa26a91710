#include "calib/rank_correlation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "calib/resampled.h"
#include "core/error.h"

namespace deltacal::calib {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

struct Pairs {
  std::vector<double> a, b;
};

Pairs known_pairs(std::span<const double> a, std::span<const double> b) {
  if (a.size() != b.size())
    throw bad_input("rank correlation of lists of {} and {} values", a.size(), b.size());
  Pairs pairs;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) || std::isnan(b[i])) continue;
    pairs.a.push_back(a[i]);
    pairs.b.push_back(b[i]);
  }
  return pairs;
}

// 0-based; equal values share the mean of the places that they take.
Eigen::VectorXd ranks_of(const std::vector<double>& values) {
  std::vector<int> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int i, int j) { return values[i] < values[j]; });
  Eigen::VectorXd ranks(static_cast<Eigen::Index>(values.size()));
  for (std::size_t first = 0, end; first < order.size(); first = end) {
    for (end = first + 1; end < order.size() && values[order[end]] == values[order[first]];) ++end;
    for (std::size_t i = first; i < end; ++i) ranks[order[i]] = static_cast<double>(first + end - 1) / 2;
  }
  return ranks;
}

std::span<const double> as_span(const Eigen::VectorXd& values) {
  return {values.data(), static_cast<std::size_t>(values.size())};
}

}  // namespace

double spearman(std::span<const double> a, std::span<const double> b) {
  const Pairs pairs = known_pairs(a, b);
  if (pairs.a.size() < 2) return nan;
  const double middle = static_cast<double>(pairs.a.size() - 1) / 2;
  const Eigen::ArrayXd x = ranks_of(pairs.a).array() - middle, y = ranks_of(pairs.b).array() - middle;
  const double xx = x.square().sum(), yy = y.square().sum();
  return xx > 0 && yy > 0 ? (x * y).sum() / std::sqrt(xx * yy) : nan;
}

double kendall(std::span<const double> a, std::span<const double> b) {
  const Pairs pairs = known_pairs(a, b);
  const auto sign = [](double x, double y) { return (x < y) - (x > y); };
  long long together = 0, untied_a = 0, untied_b = 0;
  for (std::size_t i = 0; i < pairs.a.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) {
      const int in_a = sign(pairs.a[j], pairs.a[i]), in_b = sign(pairs.b[j], pairs.b[i]);
      together += in_a * in_b;
      untied_a += in_a != 0;
      untied_b += in_b != 0;
    }
  if (untied_a == 0 || untied_b == 0) return nan;
  return static_cast<double>(together) /
         std::sqrt(static_cast<double>(untied_a) * static_cast<double>(untied_b));
}

RankCorrelation rank_correlation(std::span<const double> surrogate,
                                 const Eigen::Ref<const Eigen::MatrixXd>& gap,
                                 std::span<const std::string> problems, const Bootstrap& bootstrap) {
  if (gap.cols() != std::ssize(surrogate))
    throw bad_input("a surrogate of {} schedules, gaps of {}", surrogate.size(), gap.cols());
  const Resampler resampler(problems, bootstrap);
  const ResampledMeans means(resampler, gap);
  const Eigen::VectorXd gaps = means.of_all();
  RankCorrelation out;
  out.spearman = estimate(means, bootstrap, [&](const Eigen::VectorXd& of_resample) {
    return spearman(surrogate, as_span(of_resample));
  });
  out.kendall = kendall(surrogate, as_span(gaps));
  out.n_schedules = static_cast<int>(known_pairs(surrogate, as_span(gaps)).a.size());
  return out;
}

}  // namespace deltacal::calib
