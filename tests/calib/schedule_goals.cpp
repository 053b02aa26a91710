// Goals beside "least loss within one budget": the cheapest within a loss, many budgets, bytes and
// milliseconds.
#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "calib/schedule/goals.h"
#include "core/error.h"
#include "schedule_support.h"

using namespace deltacal;
using namespace deltacal::calib;
using namespace deltacal::calib::test;
using Catch::Matchers::ContainsSubstring;
using schedule::Budgets;

namespace {

// The best of each set of Δ-layers by (cost, loss), cheapest first.
std::vector<std::pair<long long, double>> brute_force(const EdgeCosts& edges, const LayerCosts& costs,
                                                      const schedule::Options& options, double target) {
  std::map<unsigned, std::pair<long long, double>> best;
  EverySchedule(edges, costs, options).run([&](unsigned set, long long cost, double loss) {
    if (loss > target) return;
    auto [at, is_new] = best.try_emplace(set, cost, loss);
    at->second = std::min(at->second, {cost, loss});
  });
  std::vector<std::pair<long long, double>> sorted;
  for (const auto& [set, found] : best) sorted.push_back(found);
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

void compare(const EdgeCosts& edges, const LayerCosts& costs, schedule::Options options) {
  for (const double target : {0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 100.0}) {
    const auto expected = brute_force(edges, costs, options, target);
    for (const int candidates : {1, 9}) {
      options.candidates = candidates;
      CAPTURE(edges.n_layers, target, candidates);
      const auto found = schedule::cheapest_with_loss(edges, costs, target, options);
      REQUIRE(found.size() == std::min<size_t>(candidates, expected.size()));
      for (size_t i = 0; i < found.size(); ++i) {
        CHECK(found[i].cost == expected[i].first);
        CHECK(std::abs(found[i].loss - expected[i].second) < 1e-12);
        CHECK(found[i].loss <= target);
      }
    }
  }
}

const std::vector<config::StepRange> steps{{60, 700}, {33, 1024}};

}  // namespace

TEST_CASE("schedule: the cheapest within a loss equals brute force, by cost and then by loss") {
  for (int n_layers : {1, 4, 7})
    for (Losses kind : {Losses::uniform, Losses::tied, Losses::holes, Losses::equal, Losses::real})
      for (const auto budgets : {Budgets::per_layer, Budgets::per_segment, Budgets::one})
        for (const long long delta : {1000LL, 1130LL})
          compare(random_edges(n_layers, {4, 8, 16}, {2, 8}, kind, 11 * n_layers),
                  {1000, delta, {90, 210, 530}}, {.full_layers = 1, .budgets = budgets});
}

TEST_CASE(
    "schedule: the cheapest within a loss where a signal makes lists, each Δ-layer at a cost of its own") {
  for (int n_layers : {3, 6})
    for (Losses kind : {Losses::uniform, Losses::tied, Losses::holes, Losses::real}) {
      LayerCosts costs{997, 997, {101, 257, 600}};
      for (int layer = 0; layer < n_layers; ++layer)
        costs.listed.push_back({201 + layer * 131 % 300, 330 + layer * 57 % 300, 640 + layer * 91 % 300});
      const auto edges = random_edges(n_layers, {4, 8, 32}, {1, 8}, kind, 13 * n_layers);
      schedule::Options options{.full_layers = 0};
      options.refresh = config::AdaptiveRefresh{0.8, 16};
      for (const auto budgets : {Budgets::per_layer, Budgets::per_segment, Budgets::one}) {
        options.budgets = budgets;
        compare(edges, costs, options);
      }
      options.budgets = Budgets::per_layer;
      options.n_deltas = 2;
      compare(edges, costs, options);
      options.n_deltas.reset();
      options.delta_layers = {{0}};
      compare(edges, costs, options);
    }
}

TEST_CASE("schedule: the cheapest within a loss with a given number of Δ-layers, or given ones") {
  const LayerCosts costs{1000, 1000, {130, 470}};
  for (Losses kind : {Losses::uniform, Losses::tied}) {
    const auto edges = random_edges(8, {4, 16}, {2}, kind, 5);
    for (int n_deltas : {0, 1, 2, 4}) compare(edges, costs, {.full_layers = 0, .n_deltas = n_deltas});
    compare(edges, costs, {.full_layers = 0, .delta_layers = {{0, 3}}});
  }
}

TEST_CASE("schedule: pareto gives the best schedule of each budget, and none where none is") {
  const LayerCosts costs{1000, 1000, {130, 470}};
  const auto edges = random_edges(8, {4, 16}, {2}, Losses::uniform, 5);
  const std::vector<long long> budgets{8000, 5000, 3000, 4321, 1000};
  for (const auto kind : {Budgets::per_layer, Budgets::one}) {
    const auto found = schedule::pareto(edges, costs, budgets, {.full_layers = 0, .budgets = kind});
    REQUIRE(found.size() == budgets.size());
    CHECK_FALSE(found[4]);
    for (size_t i = 0; i < 4; ++i) {
      const auto alone = schedule::k_best(edges, costs, budgets[i], {.full_layers = 0, .budgets = kind});
      REQUIRE(found[i]);
      CHECK(found[i]->schedule == alone[0].schedule);
      CHECK(found[i]->cost <= budgets[i]);
    }
  }
}

TEST_CASE("schedule: a goal in bytes is met on the keys and values that a step reads in the mean") {
  const auto edges = random_edges(8, {4, 16}, {2}, Losses::real, 5);
  const schedule::CostSource source{steps, 8, bytes_per_position(3, 64, 2)};
  const Goal goal = parse_budget("bytes=1M");
  const auto costs = schedule::costs_for(goal, source, edges.k_pages);
  const auto found = schedule::best_for(goal, edges, costs, {.full_layers = 0});
  REQUIRE(!found.empty());
  const StepCosts positions(steps);
  double bytes = 0;
  for (const auto& plan : found[0].schedule.layers)
    bytes += double(plan.role == config::Role::sparse ? positions.at(plan.k_pages) : positions.full()) * 768;
  CHECK(bytes / (640 + 991) <= 1024 * 1024);
  CHECK_THROWS_WITH(schedule::costs_for(goal, {steps, 8}, edges.k_pages),
                    ContainsSubstring("bytes per position"));
}

TEST_CASE("schedule: a goal in milliseconds needs a cost table, and is met by its times") {
  const CostTable table{"cpu", 1, {16, 2048}, {4, 16}, {0.1, 1}, {0.2, 1.5}, {{0.05, 0.05}, {0.2, 0.5}},
                        {3, 3}};
  const auto edges = random_edges(8, {4, 16}, {2}, Losses::real, 5);
  const Goal goal = parse_budget("ms=5.5");
  CHECK_THROWS_WITH(schedule::costs_for(goal, {steps, 8}, edges.k_pages), ContainsSubstring("--cost"));
  const auto costs = schedule::costs_for(goal, {steps, 8, 0, &table}, edges.k_pages);
  CHECK(costs.layers.delta > costs.layers.full);
  const auto found = schedule::best_for(goal, edges, costs, {.full_layers = 0});
  REQUIRE(!found.empty());
  CHECK(double(found[0].cost) / (640 + 991) / 1e6 + 3 <= 5.5);
}

TEST_CASE("schedule: targets of recall and loss go to the cheapest schedules") {
  const auto edges = random_edges(8, {4, 16}, {2}, Losses::uniform, 5);
  for (const Goal& goal : {min_recall_goal(0.3), max_kl_goal(0.5)}) {
    const auto costs = schedule::costs_for(goal, {steps, 8}, edges.k_pages);
    const auto expected = goal.kind == Goal::Kind::max_kl
                              ? schedule::cheapest_with_loss(edges, costs.layers, 0.5, {})
                              : schedule::cheapest_with_recall(edges, costs.layers, 0.3, {});
    const auto found = schedule::best_for(goal, edges, costs, {});
    REQUIRE(found.size() == expected.size());
    CHECK(found[0].schedule == expected[0].schedule);
    CHECK(found[0].cost < costs.budget);
  }
  CHECK_THROWS_AS(schedule::cheapest_with_loss(edges, {1000, 1000, {1, 2}}, -1, {}), Error);
}
