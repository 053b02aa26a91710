// Kascade, TidalDecode and random draws: against trying everything, and within the budget.
#include <bit>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <set>

#include "calib/baselines/kascade.h"
#include "calib/baselines/random_draws.h"
#include "calib/baselines/tidal.h"
#include "core/error.h"
#include "schedule_support.h"

using namespace deltacal;
using namespace deltacal::calib;
using namespace deltacal::calib::baselines;
using namespace deltacal::calib::test;
using Catch::Approx;
using config::Role;

namespace {

const std::vector<config::StepRange> ranges{{60, 700}, {33, 1024}, {0, 517}};

std::vector<int> layers_in(unsigned set) {
  std::vector<int> layers;
  for (int layer = 0; layer < 32; ++layer)
    if (set >> layer & 1) layers.push_back(layer);
  return layers;
}

// Sum over the layers that are not chosen of their similarity to the nearest chosen one below; NaN if
// unknown.
double brute_similarity(const Eigen::MatrixXd& similarity, const std::vector<int>& chosen) {
  double sum = 0;
  int source = -1;
  for (int layer = chosen[0]; layer < similarity.rows(); ++layer) {
    if (std::find(chosen.begin(), chosen.end(), layer) != chosen.end())
      source = layer;
    else
      sum += similarity(layer, source);
  }
  return sum;
}

// Every sparse layer has the same K, one page more than the budget allows.
void check_fills(const config::Schedule& schedule, const StepCosts& costs, long long budget,
                 long long attended) {
  CHECK_NOTHROW(config::check(schedule, "test"));
  CHECK(schedule::attended_by(costs, schedule) == attended);
  CHECK(attended <= budget);
  auto more = schedule;
  std::set<int> pages;
  for (auto& plan : more.layers)
    if (plan.role == Role::sparse) pages.insert(plan.k_pages++);
  CHECK(pages.size() == 1);
  CHECK(schedule::attended_by(costs, more) > budget);
}

long long budget_of(const StepCosts& costs, int n_layers, double ratio) {
  return static_cast<long long>(n_layers * costs.full() / ratio);
}

}  // namespace

TEST_CASE("kascade: the anchors of a small model are those found by hand") {
  // Layers 1-2 resemble 0, layer 4 resembles 3; everything else is far off.
  Eigen::MatrixXd similarity = Eigen::MatrixXd::Constant(5, 5, 0.1);
  similarity(1, 0) = similarity(2, 0) = 0.9;
  similarity(4, 3) = 0.8;
  CHECK(kascade_layers(similarity, 0, 1) == std::vector{0});
  CHECK(kascade_layers(similarity, 0, 2) == std::vector{0, 3});
  CHECK(kascade_layers(similarity, 1, 1) == std::vector{1});
  CHECK(kascade_layers(similarity, 0, 5) == std::vector{0, 1, 2, 3, 4});
  CHECK(kascade_layers(Eigen::MatrixXd::Constant(6, 6, 0.5), 1, 3) ==
        std::vector{1, 2, 3});  // all equal: the lowest
  similarity(4, 3) = NAN;       // then 4 must be an anchor or read another's
  CHECK(kascade_layers(similarity, 3, 1).empty());
  CHECK(kascade_layers(similarity, 3, 2) == std::vector{3, 4});
  CHECK_THROWS_AS(kascade_layers(similarity, 0, 6), Error);
  CHECK_THROWS_AS(kascade_layers(similarity, 0, 0), Error);
}

TEST_CASE("kascade: dynamic programming equals trying every set of anchors") {
  std::mt19937 random(9);
  for (int trial = 0; trial < 40; ++trial) {
    const int n = 3 + trial % 7, full_layers = trial % 3 == 0 ? 0 : 1;
    Eigen::MatrixXd similarity(n, n);
    for (double& value : similarity.reshaped())  // a third unknown, many equal
      value = random() % 3 == 0 && trial % 2 ? NAN : double(random() % 16) / 16;
    for (int m = 1; m <= n - full_layers; ++m) {
      double best = -1;
      for (unsigned set = 0; set < 1u << n; ++set) {
        const auto chosen = layers_in(set);
        if (std::popcount(set) != m || chosen[0] != full_layers) continue;
        const double sum = brute_similarity(similarity, chosen);
        if (sum > best) best = sum;
      }
      const auto found = kascade_layers(similarity, full_layers, m);
      CAPTURE(trial, m);
      CHECK(found.empty() == (best < 0));
      if (!found.empty()) CHECK(brute_similarity(similarity, found) == best);  // sums of sixteenths are exact
    }
  }
}

TEST_CASE("kascade: similarity is recall over the target's oracle") {
  auto edges = random_edges(4, {4, 8}, {1, 4}, Losses::uniform, 1);
  std::vector<double> oracle(2 * 4, 0.5);
  oracle[4 + 3] = 0.25;  // K = 8, layer 3
  oracle[4 + 2] = 0;
  const auto similarity = kascade_similarity(edges, oracle, 1, 0);
  CHECK(similarity(1, 0) == Approx(edges.recall_mean[edges.at(1, 0, 1, 0)] / 0.5));
  CHECK(similarity(3, 1) == Approx(edges.recall_mean[edges.at(3, 1, 1, 0)] / 0.25));
  CHECK(std::isnan(similarity(2, 0)));
  CHECK(std::isnan(similarity(0, 1)));  // no layer reads the list of a later one
  CHECK_THROWS_AS(kascade_similarity(edges, std::vector<double>(4, 0.5), 1, 0), Error);
}

TEST_CASE("kascade: oracle recall is the mean of the samples that have one") {
  std::vector<SampleRecall> samples(3);
  for (auto& sample : samples) sample.n_layers = 2;
  samples[0].oracle = {0.5f, 0.25f, 1, NAN};
  samples[1].oracle = {1, NAN, 0.5f, NAN};
  samples[2].oracle = {0.75f, NAN, NAN, NAN};
  const auto oracle = mean_oracle(samples, 2);
  CHECK(oracle[0] == 0.75);
  CHECK(oracle[1] == 0.25);
  CHECK(oracle[2] == 0.75);
  CHECK(std::isnan(oracle[3]));
  CHECK_THROWS_AS(mean_oracle(samples, 3), Error);
  CHECK_THROWS_AS(mean_oracle({}, 2), Error);
}

TEST_CASE("kascade: fills the budget, takes the m of least loss, and needs a measured K") {
  const StepCosts costs(ranges);
  const int n_layers = 12;
  const auto edges = random_edges(n_layers, {4, 8, 16, 32}, {1, 4}, Losses::real, 3);
  const std::vector<double> oracle(4 * n_layers, 1.0);
  for (double ratio : {1.2, 1.6, 2.4}) {
    const long long budget = budget_of(costs, n_layers, ratio);
    const auto found = kascade(edges, oracle, costs, budget, {});
    REQUIRE(found);
    check_fills(found->schedule, costs, budget, found->attended);
    CHECK(found->loss == Approx(schedule::loss_of(edges, found->schedule)));
    // With an oracle of 1 the similarity of K is 1 - loss here: no other anchors of that number lose less.
    const int m = std::popcount(set_of(found->schedule));
    int k = 0;
    for (const auto& plan : found->schedule.layers) k = std::max(k, plan.k_pages);
    for (unsigned set = 0; set < 1u << n_layers; set += 4) {
      const auto chosen = layers_in(set);
      if (std::popcount(set) != m || chosen[0] != 2) continue;
      const auto other = with_one_k(n_layers, 2, chosen, k, 4);
      if (std::popcount(set_of(other)) == m) CHECK(schedule::loss_of(edges, other) >= found->loss - 1e-12);
    }
  }
  CHECK_FALSE(kascade(edges, oracle, costs, 3 * costs.full(), {}));
  CHECK_FALSE(kascade(edges, std::vector<double>(4 * n_layers, NAN), costs, 9 * costs.full(), {}));
}

TEST_CASE("tidal: layers 0 and 1 are full, 2 selects, and one later layer selects again") {
  const StepCosts costs(ranges);
  const int n_layers = 9;
  const auto edges = random_edges(n_layers, {4, 8, 16, 32}, {1, 4}, Losses::real, 7);
  const long long budget = budget_of(costs, n_layers, 1.5);
  const auto sweep = tidal_sweep(edges, costs, budget, 4);
  REQUIRE(sweep.size() == 6);  // 3..7 and none
  for (size_t i = 0; i < sweep.size(); ++i) {
    check_fills(sweep[i].schedule, costs, budget, sweep[i].attended);
    const int again = i < 5 ? 3 + static_cast<int>(i) : -1;
    for (int layer = 0; layer < n_layers; ++layer)
      CHECK((sweep[i].schedule.layers[layer].role == Role::sparse) == (layer > 2 && layer != again));
    CHECK(sweep[i].schedule.layers[2].role == (again == 3 ? Role::full : Role::delta));
  }
  // Without re-selection one layer less attends to everything, which pays for more pages.
  CHECK(sweep[5].schedule.layers[8].k_pages > sweep[4].schedule.layers[8].k_pages);
}

TEST_CASE("tidal: the re-selection layer with the largest summed recall is taken") {
  const StepCosts costs(ranges);
  const int n_layers = 9;
  for (unsigned seed = 0; seed < 10; ++seed) {
    const auto edges = random_edges(n_layers, {4, 8, 16, 32}, {1, 4}, Losses::uniform, seed);
    const long long budget = budget_of(costs, n_layers, 1.5);
    const auto found = tidal(edges, costs, budget, 4);
    REQUIRE(found);
    // Random losses are 1 - recall here.
    CHECK(summed_recall_lost(edges, found->schedule) == Approx(found->loss));
    for (const auto& other : tidal_sweep(edges, costs, budget, 4)) CHECK(other.loss >= found->loss - 1e-12);
  }
}

TEST_CASE("tidal: none without a budget that it meets, a measured K, or enough layers") {
  const StepCosts costs(ranges);
  const auto edges = random_edges(9, {4, 8}, {1, 4}, Losses::uniform, 1);
  CHECK_FALSE(tidal(edges, costs, 3 * costs.full(), 4));
  CHECK_FALSE(tidal(EdgeCosts(9, {4, 8}, {1, 4}), costs, 7 * costs.full(), 4));  // nothing known
  CHECK(tidal_sweep(edges, costs, 3 * costs.full() + 6 * costs.at(3), 1).empty());
  CHECK(tidal_sweep(edges, costs, 3 * costs.full() + 6 * costs.at(4), 1).size() ==
        1);  // without re-selection
  CHECK_THROWS_AS(tidal(random_edges(3, {4}, {1}, Losses::uniform, 1), costs, 3 * costs.full(), 1), Error);
}

TEST_CASE("random draws: different schedules that fill the budget, the same for a seed") {
  const StepCosts costs(ranges);
  const int n_layers = 14;
  const auto edges = random_edges(n_layers, {4, 8, 16, 32}, {1, 4}, Losses::real, 3);
  const long long budget = budget_of(costs, n_layers, 1.5);
  const auto draws = random_draws(edges, costs, budget, usual_draws, {.seed = 4});
  REQUIRE(draws.size() == 20);
  std::set<int> numbers;
  for (size_t i = 0; i < draws.size(); ++i) {
    check_fills(draws[i].schedule, costs, budget, draws[i].attended);
    CHECK_FALSE(std::isnan(draws[i].loss));
    int sparse = 0;
    for (const auto& plan : draws[i].schedule.layers) sparse += plan.role == Role::sparse;
    numbers.insert(n_layers - 2 - sparse);
    for (size_t j = 0; j < i; ++j) CHECK_FALSE(draws[i].schedule == draws[j].schedule);
  }
  CHECK(numbers.size() >= 3);  // the number of Δ-layers is drawn too
  const auto again = random_draws(edges, costs, budget, 20, {.seed = 4});
  const auto other = random_draws(edges, costs, budget, 20, {.seed = 5});
  CHECK(again[7].schedule == draws[7].schedule);
  CHECK_FALSE(other[7].schedule == draws[7].schedule);
}

TEST_CASE("random draws: as many as there are, none where none meets the budget") {
  const StepCosts costs(ranges);
  const auto edges = random_edges(5, {4}, {1}, Losses::uniform, 3);
  // Layers 0 and 1 full, 2 first: {2}, {2,3}, {2,4}.
  CHECK(random_draws(edges, costs, 5 * costs.full() - 1, 20, {.l_pages = 1}).size() == 3);
  CHECK(random_draws(edges, costs, 3 * costs.full(), 20, {.l_pages = 1}).empty());
  CHECK_THROWS_AS(random_draws(edges, costs, 5 * costs.full(), 0, {}), Error);
}
