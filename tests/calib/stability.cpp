// Stability of the choice of Δ-layers, against counting by hand.
#include "calib/stability.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "calib/schedule/schedule.h"
#include "core/error.h"
#include "schedule_support.h"

using namespace deltacal;
using namespace deltacal::calib;
using namespace deltacal::calib::test;
using Catch::Approx;

namespace {

std::vector<std::string> problems_of(int n_samples) {
  std::vector<std::string> problems;
  for (int s = 0; s < n_samples; ++s) problems.push_back("p" + std::to_string(s));
  return problems;
}

config::Schedule with_delta(int layer) {
  config::Schedule schedule;
  schedule.layers.resize(4);
  schedule.layers[layer] = {config::Role::delta, 4, 1};
  return schedule;
}

}  // namespace

TEST_CASE("stability: the share of resamples that choose a layer") {
  // Two edges. Of six problems one has a large loss on edge 0: layer 1 is chosen unless that problem is
  // missing.
  Eigen::MatrixXd loss = Eigen::MatrixXd::Constant(6, 2, 1.0);
  loss(2, 0) = 100;
  const Bootstrap bootstrap{.resamples = 200, .seed = 3};
  int calls = 0;
  const auto found = stability(loss, problems_of(6), bootstrap, [&](std::span<const double> mean) {
    ++calls;
    REQUIRE(mean.size() == 2);
    return std::optional(with_delta(mean[0] > 1 ? 1 : 2));
  });
  const Resampler resampler(problems_of(6), bootstrap);
  double with = 0;
  for (int r = 0; r < 200; ++r) with += resampler.weights()(r, 2) > 0;
  CHECK(calls == 200);
  REQUIRE(found.share.size() == 4);
  CHECK(found.share[0] == 0);
  CHECK(found.share[1] == Approx(with / 200));
  CHECK(found.share[2] == Approx(1 - with / 200));
  CHECK(found.share[1] > 0.5);
  CHECK(found.share[1] < 0.8);  // about 1 - (5/6)^6 = 0.665
  CHECK(found.reason.empty());
}

TEST_CASE("stability: samples that agree give the solver's own layers, whatever is drawn") {
  const auto edges = random_edges(8, {4, 8}, {1}, Losses::real, 2);
  const std::vector<config::StepRange> ranges{{0, 900}};
  const auto costs = layer_costs(StepCosts(ranges), edges.k_pages);
  const long long budget = attended_budget(costs, 8, 1.5);
  const SolveLosses solve = [&](std::span<const double> loss) -> std::optional<config::Schedule> {
    auto resampled = edges;
    resampled.loss.assign(loss.begin(), loss.end());
    const auto found = schedule::k_best(resampled, costs, budget, {.candidates = 1});
    if (found.empty()) return std::nullopt;
    return found[0].schedule;
  };
  const Eigen::MatrixXd loss =
      Eigen::Map<const Eigen::RowVectorXd>(edges.loss.data(), std::ssize(edges.loss)).replicate(5, 1);
  const auto found = stability(loss, problems_of(5), {.resamples = 20}, solve);
  const auto whole = *solve(edges.loss);
  CHECK(found.resamples == 20);
  for (int layer = 0; layer < 8; ++layer)
    CHECK(found.share[layer] == (whole.layers[layer].role == config::Role::delta ? 1 : 0));
}

TEST_CASE("stability: unsolved resamples are counted apart, few problems have none") {
  const Eigen::MatrixXd loss = Eigen::MatrixXd::Ones(5, 1);
  int calls = 0;
  const auto half = stability(loss, problems_of(5), {.resamples = 10}, [&](auto) {
    return ++calls % 2 ? std::nullopt : std::optional(with_delta(3));
  });
  CHECK(half.unsolved == 5);
  CHECK(half.resamples == 5);
  CHECK(half.share[3] == 1);
  const auto none = stability(loss, problems_of(5), {.resamples = 10},
                              [](auto) { return std::optional<config::Schedule>(); });
  CHECK(none.share.empty());
  CHECK(none.reason == "no schedule meets the budget");
  const auto few =
      stability(loss.topRows(3), problems_of(3), {.resamples = 10},
                [](auto) -> std::optional<config::Schedule> { throw Error(Status::failure, "called"); });
  CHECK(few.share.empty());
  CHECK(few.reason == "fewer than 4 problems: 3");
  CHECK_THROWS_AS(
      stability(loss, problems_of(4), {.resamples = 10}, [](auto) { return std::optional(with_delta(1)); }),
      Error);
  calls = 0;
  CHECK_THROWS_AS(stability(loss, problems_of(5), {.resamples = 10},
                            [&](auto) {
                              auto schedule = with_delta(1);
                              schedule.layers.resize(++calls + 3);
                              return std::optional(schedule);
                            }),
                  Error);
}
