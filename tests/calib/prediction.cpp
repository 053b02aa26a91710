// The check of the predicted KL against figures worked out by hand and plain loops.
#include "calib/prediction.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>

#include "calib/prediction_json.h"
#include "core/error.h"

using namespace deltacal;
using namespace deltacal::calib;
using Catch::Approx;

namespace {

using List = std::vector<double>;
constexpr Bootstrap quick{.resamples = 200};

std::vector<std::string> problems_of(int n_samples) {
  std::vector<std::string> problems;
  for (int s = 0; s < n_samples; ++s) problems.push_back("p" + std::to_string(s));
  return problems;
}

// Every sample measures the same.
Eigen::MatrixXd alike(int n_samples, const List& measured) {
  return Eigen::Map<const Eigen::RowVectorXd>(measured.data(), std::ssize(measured)).replicate(n_samples, 1);
}

}  // namespace

TEST_CASE("prediction: an even factor is the scale, and nothing is left over") {
  const List predicted{0.01, 0.02, 0.05};
  const auto found = check_prediction(predicted, alike(5, {0.025, 0.05, 0.125}), std::vector{7, 5, 3},
                                      problems_of(5), quick);
  CHECK(found.scale.mean == Approx(2.5));
  CHECK(*found.scale.low == Approx(2.5));
  CHECK(*found.scale.high == Approx(2.5));
  CHECK(found.rank.spearman.mean == Approx(1));
  CHECK(found.warning.empty());
  CHECK(found.no_interval_reason.empty());
  CHECK(found.n_schedules == 3);
  REQUIRE(found.residuals.size() == 3);
  CHECK(found.residuals[0].delta_layers == 3);
  CHECK(found.residuals[2].delta_layers == 7);
  for (const auto& residual : found.residuals) CHECK(residual.mean == Approx(0).margin(1e-12));
}

TEST_CASE("prediction: the scale is the mean of logarithms, residuals go by number of Δ-layers") {
  // Ratios 1, 4 with 2 Δ-layers and 2 with 6: scale 2, residuals -log 2, log 2 and 0.
  const List predicted{0.1, 0.1, 0.01};
  const auto found =
      check_prediction(predicted, alike(4, {0.1, 0.4, 0.02}), std::vector{2, 2, 6}, problems_of(4), quick);
  CHECK(found.scale.mean == Approx(2));
  REQUIRE(found.residuals.size() == 2);
  CHECK(found.residuals[0].n_schedules == 2);
  CHECK(found.residuals[0].mean == Approx(0).margin(1e-12));
  CHECK(found.residuals[0].least == Approx(-std::log(2)));
  CHECK(found.residuals[0].largest == Approx(std::log(2)));
  CHECK(found.residuals[1].mean == Approx(0).margin(1e-12));
}

TEST_CASE("prediction: a poor order is warned of, a good one is not") {
  const List predicted{1, 2, 3, 4};
  const std::vector<int> deltas(4, 3);
  // Spearman 0.8 is enough, 0.4 is not.
  CHECK(check_prediction(predicted, alike(4, {1, 3, 2, 4}), deltas, problems_of(4), quick).warning.empty());
  const auto poor = check_prediction(predicted, alike(4, {3, 1, 2, 4}), deltas, problems_of(4), quick);
  CHECK(poor.rank.spearman.mean == Approx(0.4));
  CHECK(poor.warning.find("0.40, below 0.8") != std::string::npos);
  const auto one = check_prediction(List{1}, alike(4, {1}), std::vector{3}, problems_of(4), quick);
  CHECK(one.warning.find("no rank correlation") == 0);
  CHECK(one.scale.mean == Approx(1));
}

TEST_CASE("prediction: schedules without a logarithm count in the order, not in the scale") {
  const List predicted{0.0, 0.1, 0.2, NAN};
  const auto found = check_prediction(predicted, alike(4, {-0.01, 0.3, 0.6, 0.5}), std::vector{1, 2, 2, 3},
                                      problems_of(4), quick);
  CHECK(found.scale.mean == Approx(3));
  CHECK(found.n_schedules == 2);
  CHECK(found.n_left_out == 2);
  CHECK(found.residuals.size() == 1);
  CHECK(found.rank.n_schedules == 3);
  CHECK(found.rank.spearman.mean == Approx(1));
}

TEST_CASE("prediction: the interval of the scale is that of scales of resampled problems") {
  std::mt19937 random(4);
  std::lognormal_distribution<double> spread(0, 0.5);
  const int n_samples = 9, n_schedules = 6;
  List predicted;
  Eigen::MatrixXd measured(n_samples, n_schedules);
  for (int j = 0; j < n_schedules; ++j) {
    predicted.push_back(0.01 * spread(random));
    for (int s = 0; s < n_samples; ++s) measured(s, j) = 2 * predicted[j] * spread(random);
  }
  const Bootstrap bootstrap{.resamples = 300, .seed = 3};
  const auto problems = problems_of(n_samples);
  const auto found =
      check_prediction(predicted, measured, std::vector<int>(n_schedules, 4), problems, bootstrap);
  const Resampler resampler(problems, bootstrap);
  List scales;
  for (int r = 0; r < 300; ++r) {
    double product = 1;
    for (int j = 0; j < n_schedules; ++j) {
      double sum = 0;
      for (int s = 0; s < n_samples; ++s)
        sum += resampler.weights()(r, resampler.problem_of_sample()[s]) * measured(s, j);
      product *= sum / n_samples / predicted[j];
    }
    scales.push_back(std::pow(product, 1.0 / n_schedules));
  }
  CHECK(*found.scale.low == Approx(quantile_in_place(scales, 0.025)));
  CHECK(*found.scale.high == Approx(quantile_in_place(scales, 0.975)));
  CHECK(*found.scale.low < found.scale.mean);
  CHECK(found.scale.mean < *found.scale.high);
}

TEST_CASE("prediction: fewer than 4 problems give figures and the reason for no interval") {
  const auto found = check_prediction(List{1, 2}, alike(3, {2, 4}), std::vector{2, 3}, problems_of(3), quick);
  CHECK(found.scale.mean == Approx(2));
  CHECK_FALSE(found.scale.low);
  CHECK(found.no_interval_reason == "fewer than 4 problems: 3");
  const auto json = to_json(found);
  CHECK(json["scale"]["mean"] == 2.0);
  CHECK(json["scale"]["low"].is_null());
  CHECK(json["reason"] == "fewer than 4 problems: 3");
  CHECK(json["warning"].is_null());
  CHECK(json["residuals"][1]["delta_layers"] == 3);
}

TEST_CASE("prediction: sizes that do not fit are refused") {
  CHECK_THROWS_AS(check_prediction(List{1, 2}, alike(4, {2, 4}), std::vector{2}, problems_of(4), quick),
                  Error);
  CHECK_THROWS_AS(check_prediction(List{1}, alike(4, {2, 4}), std::vector{2}, problems_of(4), quick), Error);
  CHECK_THROWS_AS(check_prediction(List{1}, alike(4, {2}), std::vector{2}, problems_of(3), quick), Error);
}
