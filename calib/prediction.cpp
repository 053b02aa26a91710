#include "calib/prediction.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "calib/resampled.h"
#include "core/error.h"

namespace deltacal::calib {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// log(measured / predicted) of each schedule, NaN where there is no logarithm.
std::vector<double> log_ratios(std::span<const double> predicted, const Eigen::VectorXd& measured) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < predicted.size(); ++i) {
    const double found = measured[static_cast<Eigen::Index>(i)];
    const bool known = predicted[i] > 0 && found > 0 && std::isfinite(predicted[i]) && std::isfinite(found);
    ratios.push_back(known ? std::log(found) - std::log(predicted[i]) : nan);
  }
  return ratios;
}

double scale_of(const std::vector<double>& ratios) {
  double sum = 0;
  int n = 0;
  for (const double ratio : ratios)
    if (!std::isnan(ratio)) sum += ratio, ++n;
  return n > 0 ? std::exp(sum / n) : nan;
}

std::vector<PredictionResidual> residuals_of(const std::vector<double>& ratios, double scale,
                                             std::span<const int> delta_layers) {
  std::map<int, std::vector<double>> by_deltas;
  for (std::size_t i = 0; i < ratios.size(); ++i)
    if (!std::isnan(ratios[i])) by_deltas[delta_layers[i]].push_back(ratios[i] - std::log(scale));
  std::vector<PredictionResidual> out;
  for (const auto& [deltas, residuals] : by_deltas) {
    double sum = 0;
    for (const double residual : residuals) sum += residual;
    const auto [least, largest] = std::ranges::minmax(residuals);
    const auto n = static_cast<int>(residuals.size());
    out.push_back({deltas, n, sum / n, least, largest});
  }
  return out;
}

std::string warning_of(const RankCorrelation& rank) {
  if (std::isnan(rank.spearman.mean))
    return fmt::format("no rank correlation of predicted with measured KL: {} schedules with both",
                       rank.n_schedules);
  if (rank.spearman.mean >= trusted_rank_correlation) return {};
  return fmt::format(
      "predicted and measured KL of {} schedules have a rank correlation of {:.2f}, below {}: judge "
      "schedules by "
      "their measured NLL gap, not by the prediction",
      rank.n_schedules, rank.spearman.mean, trusted_rank_correlation);
}

}  // namespace

Prediction check_prediction(std::span<const double> predicted,
                            const Eigen::Ref<const Eigen::MatrixXd>& measured,
                            std::span<const int> delta_layers, std::span<const std::string> problems,
                            const Bootstrap& bootstrap) {
  if (delta_layers.size() != predicted.size())
    throw bad_input("predicted KL of {} schedules, Δ-layers of {}", predicted.size(), delta_layers.size());
  Prediction out;
  out.rank = rank_correlation(predicted, measured, problems, bootstrap);
  const Resampler resampler(problems, bootstrap);
  const ResampledMeans means(resampler, measured);
  out.scale = estimate(means, bootstrap, [&](const Eigen::VectorXd& of_resample) {
    return scale_of(log_ratios(predicted, of_resample));
  });
  const auto ratios = log_ratios(predicted, means.of_all());
  out.residuals = residuals_of(ratios, out.scale.mean, delta_layers);
  out.n_left_out = static_cast<int>(std::ranges::count_if(ratios, [](double r) { return std::isnan(r); }));
  out.n_schedules = static_cast<int>(ratios.size()) - out.n_left_out;
  out.warning = warning_of(out.rank);
  out.no_interval_reason = no_interval_reason(means.n_problems());
  return out;
}

}  // namespace deltacal::calib
