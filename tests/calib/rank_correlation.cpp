// Rank correlations against values worked out by hand, published ones and plain loops.
#include "calib/rank_correlation.h"

#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>

#include "calib/resampled.h"
#include "core/error.h"

using namespace deltacal;
using namespace deltacal::calib;
using Catch::Approx;

namespace {

using List = std::vector<double>;

std::vector<std::string> problems_of(int n_samples, int a_problem) {
  std::vector<std::string> problems;
  for (int s = 0; s < n_samples; ++s) problems.push_back("p" + std::to_string(s / a_problem));
  return problems;
}

// The rank of a value is the number below it plus half the number of others equal to it.
double brute_spearman(const List& a, const List& b) {
  const auto rank = [](const List& v, double x) {
    double rank = -0.5;
    for (double y : v) rank += (y < x) + 0.5 * (y == x);
    return rank;
  };
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double x = rank(a, a[i]) - (a.size() - 1) / 2.0, y = rank(b, b[i]) - (a.size() - 1) / 2.0;
    ab += x * y, aa += x * x, bb += y * y;
  }
  return ab / std::sqrt(aa * bb);
}

}  // namespace

TEST_CASE("rank correlation: Spearman's of small lists is that worked out by hand") {
  CHECK(spearman(List{1, 2, 3, 4}, List{10, 20, 30, 40}) == Approx(1));
  CHECK(spearman(List{1, 2, 3, 4}, List{9, 7, 5, -2}) == Approx(-1));
  // d = 0, 1, 1, 0: 1 - 6 * 2 / (4 * 15)
  CHECK(spearman(List{1, 2, 3, 4}, List{1, 3, 2, 4}) == Approx(0.8));
  // Ranks 0, 1.5, 1.5, 3 against 0, 1, 2, 3: 4.5 / sqrt(4.5 * 5).
  CHECK(spearman(List{1, 2, 2, 3}, List{1, 2, 3, 4}) == Approx(std::sqrt(0.9)));
  // The examples of scipy.stats.spearmanr and kendalltau.
  CHECK(spearman(List{1, 2, 3, 4, 5}, List{5, 6, 7, 8, 7}) == Approx(0.8207826816681233));
  CHECK(kendall(List{12, 2, 1, 12, 2}, List{1, 4, 7, 1, 0}) == Approx(-0.47140452079103173));
}

TEST_CASE("rank correlation: Kendall's of small lists is that worked out by hand") {
  CHECK(kendall(List{1, 2, 3, 4}, List{1, 2, 3, 4}) == Approx(1));
  CHECK(kendall(List{1, 2, 3, 4}, List{1, 3, 2, 4}) == Approx(4.0 / 6));  // 5 pairs agree, 1 does not
  CHECK(kendall(List{1, 2, 2, 3}, List{1, 2, 3, 4}) == Approx(5 / std::sqrt(30.0)));  // one tie in the first
}

TEST_CASE("rank correlation: pairs with a missing value are left out, constant lists have none") {
  CHECK(spearman(List{1, NAN, 2, 3, 4}, List{1, 9, 3, 2, 4}) == Approx(0.8));
  CHECK(kendall(List{1, 2, 3, 0, 4}, List{1, 3, 2, NAN, 4}) == Approx(4.0 / 6));
  CHECK(std::isnan(spearman(List{1, 2, 3}, List{5, 5, 5})));
  CHECK(std::isnan(kendall(List{5, 5, 5}, List{1, 2, 3})));
  CHECK(std::isnan(spearman(List{1}, List{1})));
  CHECK(std::isnan(spearman(List{}, List{})));
  CHECK(std::isnan(kendall(List{1, NAN}, List{1, 2})));
  CHECK_THROWS_AS(spearman(List{1, 2}, List{1}), Error);
  CHECK_THROWS_AS(kendall(List{1, 2}, List{1}), Error);
}

TEST_CASE("rank correlation: Spearman's of random lists with ties equals plain counting") {
  std::mt19937 random(2);
  for (int trial = 0; trial < 50; ++trial) {
    List a, b;
    for (int i = 0; i < 3 + trial; ++i) a.push_back(random() % 7), b.push_back(random() % 5);
    const double wanted = brute_spearman(a, b);
    if (std::isnan(wanted)) continue;
    CHECK(spearman(a, b) == Approx(wanted).margin(1e-12));
  }
}

TEST_CASE("rank correlation: the interval is that of the correlations of resampled problems") {
  std::mt19937 random(5);
  std::normal_distribution<double> normal;
  const int n_samples = 15, n_schedules = 12;
  const auto problems = problems_of(n_samples, 3);
  List surrogate;
  Eigen::MatrixXd gap(n_samples, n_schedules);
  for (int j = 0; j < n_schedules; ++j) {
    surrogate.push_back(j + normal(random));
    for (int s = 0; s < n_samples; ++s) gap(s, j) = j + 20 * normal(random);
  }
  gap(3, 4) = NAN;
  const Bootstrap bootstrap{.resamples = 400, .seed = 8};
  const auto found = rank_correlation(surrogate, gap, problems, bootstrap);

  const Resampler resampler(problems, bootstrap);
  List of_resamples, all;
  for (int r = -1; r < 400; ++r) {
    List gaps;
    for (int j = 0; j < n_schedules; ++j) {
      double sum = 0, n = 0;
      for (int s = 0; s < n_samples; ++s) {
        const double times = r < 0 ? 1 : resampler.weights()(r, resampler.problem_of_sample()[s]);
        if (!std::isnan(gap(s, j))) sum += times * gap(s, j), n += times;
      }
      gaps.push_back(sum / n);
    }
    if (r < 0)
      all = gaps;
    else
      of_resamples.push_back(brute_spearman(surrogate, gaps));
  }
  CHECK(found.spearman.mean == Approx(brute_spearman(surrogate, all)));
  CHECK(found.kendall == kendall(surrogate, all));
  CHECK(found.n_schedules == n_schedules);
  CHECK(found.spearman.n_problems == 5);
  REQUIRE(found.spearman.low);
  CHECK(*found.spearman.low == Approx(quantile_in_place(of_resamples, 0.025)));
  CHECK(*found.spearman.high == Approx(quantile_in_place(of_resamples, 0.975)));
  CHECK(*found.spearman.low < found.spearman.mean);
}

TEST_CASE("rank correlation: a surrogate that orders every problem alike is certain") {
  const List surrogate{0.1, 0.2, 0.3, 0.4, NAN};
  Eigen::MatrixXd gap(8, 5);
  for (int s = 0; s < 8; ++s)
    for (int j = 0; j < 5; ++j) gap(s, j) = s + j * j;
  const auto sure = rank_correlation(surrogate, gap, problems_of(8, 2), {.resamples = 100});
  CHECK(sure.spearman.mean == Approx(1));
  CHECK(*sure.spearman.low == Approx(1));
  CHECK(sure.kendall == Approx(1));
  CHECK(sure.n_schedules == 4);
  const auto few = rank_correlation(surrogate, gap, problems_of(8, 3), {.resamples = 100});  // 3 problems
  CHECK(few.spearman.mean == Approx(1));
  CHECK_FALSE(few.spearman.low);
  CHECK_FALSE(few.spearman.high);
  CHECK(few.spearman.n_problems == 3);
}

TEST_CASE("rank correlation: sizes that do not fit are refused") {
  const Eigen::MatrixXd gap = Eigen::MatrixXd::Zero(4, 3);
  CHECK_THROWS_AS(rank_correlation(List{1, 2}, gap, problems_of(4, 1), {}), Error);
  CHECK_THROWS_AS(rank_correlation(List{1, 2, 3}, gap, problems_of(3, 1), {}), Error);
}

TEST_CASE("resampled means: missing values count in no mean, and a resample without any has none") {
  Eigen::MatrixXd values(4, 2);
  values << 1, NAN, 3, 8, NAN, NAN, NAN, NAN;
  const std::vector<std::string> problems{"a", "a", "b", "c"};
  const Resampler resampler(problems, {.resamples = 60});
  const ResampledMeans means(resampler, values);
  CHECK(means.n_samples() == 2);
  CHECK(means.n_problems() == 1);
  CHECK(means.of_all()[0] == 2);
  CHECK(means.of_all()[1] == 8);
  bool without = false;
  for (int r = 0; r < 60; ++r) {
    const bool holds_a = resampler.weights()(r, 0) > 0;
    without = without || !holds_a;
    CHECK(std::isnan(means.of(r)[0]) == !holds_a);
    if (holds_a) CHECK(means.of(r)[1] == 8);
  }
  CHECK(without);
}
