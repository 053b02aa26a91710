#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>
#include <random>

#include "calib/bootstrap.h"
#include "core/error.h"

namespace deltacal::calib {
namespace {

constexpr double missing = std::numeric_limits<double>::quiet_NaN();

std::vector<std::string> names(int n) {
  std::vector<std::string> out;
  for (int i = 0; i < n; ++i) out.push_back("problem " + std::to_string(i));
  return out;
}

TEST_CASE("bootstrap: SplitMix64 gives the published sequence") {
  SplitMix64 random(1234567);  // test vector of the Rosetta Code entry for SplitMix64
  CHECK(random.next() == 6457827717110365317u);
  CHECK(random.next() == 3203168211198807973u);
  CHECK(random.next() == 9817491932198370423u);
}

TEST_CASE("bootstrap: the width of the interval is that of theory on normal data") {
  std::mt19937 random(3);
  std::normal_distribution<double> normal(5, 2);
  const int n = 200;
  std::vector<double> values(n);
  for (double& v : values) v = normal(random);
  double mean = 0, variance = 0;
  for (const double v : values) mean += v / n;
  for (const double v : values) variance += (v - mean) * (v - mean) / n;
  const Estimate found = mean_with_interval(values, names(n), {4000, 7, 0.95});
  CHECK(found.mean == Catch::Approx(mean));
  CHECK(found.n_samples == n);
  CHECK(found.n_problems == n);
  const double theory = 2 * 1.959964 * std::sqrt(variance / n);
  CHECK(*found.high - *found.low == Catch::Approx(theory).epsilon(0.06));
  CHECK((*found.high + *found.low) / 2 == Catch::Approx(mean).margin(0.03));
}

TEST_CASE("bootstrap: intervals cover the true mean about as often as they say") {
  std::mt19937 random(11);
  std::normal_distribution<double> normal(0, 1);
  int covered = 0;
  const int trials = 300;
  for (int trial = 0; trial < trials; ++trial) {
    std::vector<double> values(40);
    for (double& v : values) v = normal(random);
    const Estimate e = mean_with_interval(values, names(40), {500, uint64_t(trial), 0.9});
    covered += *e.low <= 0 && 0 <= *e.high;
  }
  CHECK(covered > 0.84 * trials);
  CHECK(covered < 0.95 * trials);
}

TEST_CASE("bootstrap: traces of one problem are drawn together") {
  // 8 problems of 25 equal traces each: the interval is that of 8 values, not of 200.
  const std::vector<double> of_problem{1, 2, 3, 4, 5, 6, 7, 8};
  const auto problem = names(8);
  std::vector<double> values;
  std::vector<std::string> problems;
  for (int p = 0; p < 8; ++p)
    for (int i = 0; i < 25; ++i) values.push_back(of_problem[p]), problems.push_back(problem[p]);
  const Bootstrap bootstrap{2000, 1, 0.95};
  const Estimate many = mean_with_interval(values, problems, bootstrap);
  const Estimate few = mean_with_interval(of_problem, problem, bootstrap);
  CHECK(many.mean == Catch::Approx(4.5));
  CHECK(*many.low == Catch::Approx(*few.low));
  CHECK(*many.high == Catch::Approx(*few.high));
  CHECK(many.n_samples == 200);
  CHECK(many.n_problems == 8);
}

TEST_CASE("bootstrap: samples are pooled, so a problem with more traces weighs more") {
  const std::vector<double> values{0, 0, 0, 1};
  const std::vector<std::string> problems{"a", "a", "a", "b"};
  CHECK(mean_with_interval(values, problems, {}).mean == 0.25);
}

TEST_CASE("bootstrap: fewer than 4 problems give a mean and the reason, no interval") {
  const std::vector<double> values{1, 2, 3, 4, 5};
  const std::vector<std::string> problems{"a", "b", "c", "a", "b"};
  const Estimate found = mean_with_interval(values, problems, {});
  CHECK(found.mean == 3);
  CHECK(found.n_problems == 3);
  CHECK_FALSE(found.low.has_value());
  CHECK_FALSE(found.high.has_value());
  CHECK(no_interval_reason(3) == "fewer than 4 problems: 3");
  CHECK(no_interval_reason(4).empty());
}

TEST_CASE("bootstrap: missing values are dropped, and problems that have none do not count") {
  const std::vector<double> values{1, missing, 3, missing, 5};
  const Estimate found = mean_with_interval(values, names(5), {});
  CHECK(found.mean == 3);
  CHECK(found.n_samples == 3);
  CHECK(found.n_problems == 3);
  CHECK_FALSE(found.low.has_value());
  const std::vector<double> none(5, missing);
  CHECK(std::isnan(mean_with_interval(none, names(5), {}).mean));
  CHECK(std::isnan(mean_with_interval({}, {}, {}).mean));
}

TEST_CASE("bootstrap: many quantities at once equal one at a time, resample by resample") {
  std::mt19937 random(5);
  const int n_samples = 17, n_quantities = 300;  // more than one block of columns
  std::vector<std::string> problems;
  for (int s = 0; s < n_samples; ++s) problems.push_back("p" + std::to_string(s % 7));
  Eigen::MatrixXd values(n_samples, n_quantities);
  for (Eigen::Index q = 0; q < n_quantities; ++q)
    for (Eigen::Index s = 0; s < n_samples; ++s)
      values(s, q) = random() % 9 == 0 ? missing : random() / 4294967296.0;
  const Resampler resampler(problems, {200, 3, 0.9});
  REQUIRE(resampler.n_problems() == 7);
  const Estimates found = resampler.estimate(values);
  for (const Eigen::Index q : {0, 1, 255, 256, 299}) {
    // Brute force: pool the drawn problems' samples, sort the means, interpolate.
    std::vector<double> means;
    for (int r = 0; r < 200; ++r) {
      double sum = 0, count = 0;
      for (Eigen::Index s = 0; s < n_samples; ++s) {
        if (std::isnan(values(s, q))) continue;
        const double times = resampler.weights()(r, resampler.problem_of_sample()[s]);
        sum += times * values(s, q);
        count += times;
      }
      means.push_back(sum / count);
    }
    std::sort(means.begin(), means.end());
    CHECK(found.low[q] == Catch::Approx(means[9] + 0.95 * (means[10] - means[9])));  // 0.05 * 199 = 9.95
    CHECK(found.high[q] == Catch::Approx(means[189] + 0.05 * (means[190] - means[189])));
    const std::vector<double> column(values.col(q).begin(), values.col(q).end());
    const Estimate one = resampler.estimate(column);
    CHECK(one.mean == found.mean[q]);
    CHECK(*one.low == Catch::Approx(found.low[q]));
  }
}

TEST_CASE("bootstrap: every resample holds as many problems as there are, each equally often") {
  const Resampler resampler(names(5), {4000, 9, 0.95});
  CHECK((resampler.weights().rowwise().sum().array() == 5).all());
  for (Eigen::Index p = 0; p < 5; ++p)
    CHECK(resampler.weights().col(p).mean() == Catch::Approx(1).margin(0.06));
}

TEST_CASE("bootstrap: the seed decides, the order of the samples does not") {
  const std::vector<double> values{1, 5, 2, 8, 3, 9}, turned(values.rbegin(), values.rend());
  const auto problems = names(6);
  const std::vector<std::string> turned_problems(problems.rbegin(), problems.rend());
  const Estimate a = mean_with_interval(values, problems, {500, 1, 0.8});
  const Estimate b = mean_with_interval(turned, turned_problems, {500, 1, 0.8});
  const Estimate other = mean_with_interval(values, problems, {501, 2, 0.8});
  CHECK(*a.low == Catch::Approx(*b.low));
  CHECK(*a.high == Catch::Approx(*b.high));
  CHECK((*a.low != *other.low || *a.high != *other.high));
}

TEST_CASE("bootstrap: nonsense options are refused") {
  CHECK_THROWS_AS(Resampler(names(4), {0, 1, 0.95}), Error);
  CHECK_THROWS_AS(Resampler(names(4), {100, 1, 1.0}), Error);
  CHECK_THROWS_AS(Resampler(names(4), {100, 1, missing}), Error);
}

}  // namespace
}  // namespace deltacal::calib
