// Greedy search against the same search in plain loops, on losses that are made up.
#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "calib/schedule/schedule.h"
#include "calib/search.h"
#include "core/error.h"
#include "schedule_support.h"

using namespace deltacal;
using namespace deltacal::calib;
using namespace deltacal::calib::test;
using config::Role;

namespace {

const std::vector<config::StepRange> ranges{{60, 700}, {33, 1024}};

// Each layer has a loss of its own when sparse, whoever serves it.
Evaluate own_losses(std::vector<double> loss, int* calls = nullptr) {
  return [loss = std::move(loss), calls](std::span<const config::Schedule> schedules) {
    if (calls) ++*calls;
    std::vector<double> gaps;
    for (const auto& schedule : schedules) {
      double sum = 0;
      for (size_t i = 0; i < loss.size(); ++i)
        if (schedule.layers[i].role == Role::sparse) sum += loss[i];
      gaps.push_back(sum);
    }
    return gaps;
  };
}

}  // namespace

TEST_CASE("greedy search: the layers that matter least go first") {
  const StepCosts costs(ranges);
  //                                0  1  2   3    4    5    6    7
  const std::vector<double> losses{9, 9, 9, 0.3, 0.1, 0.8, 0.2, 0.5};
  int calls = 0;
  const long long budget = 4 * costs.full() + 4 * costs.at(10);
  const auto found = greedy_search(8, costs, budget, {.delta_layers = {2}}, own_losses(losses, &calls));
  REQUIRE(found.runs.size() == 1);
  const auto& rounds = found.runs[0].rounds;
  REQUIRE(rounds.size() == 4);
  CHECK(found.runs[0].k_pages == 10);
  CHECK(calls == 4);
  const int order[] = {4, 6, 3, 7};
  for (int i = 0; i < 4; ++i) {
    CHECK(rounds[i].layer == order[i]);
    CHECK(rounds[i].n_evaluated == 5 - i);
  }
  CHECK(found.n_evaluated == 5 + 4 + 3 + 2);
  CHECK(found.nll_gap == 0.1 + 0.2 + 0.3 + 0.5);
  REQUIRE(found.schedule);
  CHECK(*found.schedule == with_one_k(8, 2, std::vector{2, 5}, 10, 4));
  CHECK(found.attended == budget);
}

TEST_CASE("greedy search: of several numbers of Δ-layers the least loss is taken, infeasible ones are told") {
  const StepCosts costs(ranges);
  // Fewer pages lose more: the gap is the number of sparse layers over K.
  const Evaluate evaluate = [](std::span<const config::Schedule> schedules) {
    std::vector<double> gaps;
    for (const auto& schedule : schedules) {
      double sum = 0;
      for (const auto& plan : schedule.layers)
        if (plan.role == Role::sparse) sum += 1.0 / plan.k_pages;
      gaps.push_back(sum);
    }
    return gaps;
  };
  const long long budget = 5 * costs.full() + 5 * costs.at(6);
  const GreedyOptions options{.delta_layers = {1, 2, 3, 5}};
  const auto found = greedy_search(10, costs, budget, options, evaluate);
  REQUIRE(found.runs.size() == 4);
  CHECK(found.runs[2].k_pages == 6);
  CHECK(found.runs[3].k_pages == 0);  // 7 full layers are more than the budget
  CHECK(found.runs[3].rounds.empty());
  double least = INFINITY;
  for (const auto& run : found.runs)
    if (!run.rounds.empty()) {
      const auto& last = run.rounds.back().schedule;
      CHECK_NOTHROW(config::check(last, "test"));
      CHECK(schedule::attended_by(costs, last) <= budget);
      least = std::min(least, run.rounds.back().nll_gap);
    }
  CHECK(found.nll_gap == least);
  CHECK(schedule::attended_by(costs, *found.schedule) == found.attended);
  CHECK_FALSE(greedy_search(10, costs, 2 * costs.full(), options, evaluate).schedule);
}

TEST_CASE("greedy search: every round takes the best of all single steps, equal ones the lower layer") {
  const StepCosts costs(ranges);
  const int n_layers = 9;
  for (unsigned seed = 0; seed < 6; ++seed) {
    const auto edges =
        random_edges(n_layers, {4, 8, 16, 32}, {1, 4}, seed % 2 ? Losses::tied : Losses::uniform, seed);
    const Evaluate evaluate = [&](std::span<const config::Schedule> schedules) {
      std::vector<double> gaps;
      for (const auto& schedule : schedules) gaps.push_back(schedule::loss_of(edges, schedule));
      return gaps;
    };
    const auto found = greedy_search(n_layers, costs, 6 * costs.full(), {.delta_layers = {3}}, evaluate);
    std::vector<int> deltas{2, 3, 4, 5, 6, 7, 8};
    for (const auto& round : found.runs[0].rounds) {
      double least = INFINITY;
      int layer = 0;
      for (int candidate = 3; candidate < n_layers; ++candidate) {
        auto fewer = deltas;
        if (std::erase(fewer, candidate) == 0) continue;
        const double loss =
            schedule::loss_of(edges, with_one_k(n_layers, 2, fewer, found.runs[0].k_pages, 4));
        if (loss < least) least = loss, layer = candidate;
      }
      CHECK(round.layer == layer);
      CHECK(round.nll_gap == least);
      std::erase(deltas, layer);
    }
    CHECK(deltas.size() == 3);
  }
}

TEST_CASE("greedy search: nonsense is refused") {
  const StepCosts costs(ranges);
  const auto fine = own_losses(std::vector<double>(8, 1));
  const long long budget = 7 * costs.full();
  CHECK_THROWS_AS(greedy_search(8, costs, budget, {.delta_layers = {}}, fine), Error);
  CHECK_THROWS_AS(greedy_search(8, costs, budget, {.delta_layers = {0}}, fine), Error);
  CHECK_THROWS_AS(greedy_search(8, costs, budget, {.delta_layers = {6}}, fine), Error);
  CHECK_THROWS_AS(greedy_search(8, costs, budget, {.full_layers = 7, .delta_layers = {1}}, fine), Error);
  CHECK_THROWS_AS(greedy_search(8, costs, budget, {.l_pages = 0, .delta_layers = {2}}, fine), Error);
  const Evaluate short_answer = [](auto) { return std::vector<double>{1}; };
  const Evaluate broken = [](auto schedules) { return std::vector<double>(schedules.size(), NAN); };
  CHECK_THROWS_AS(greedy_search(8, costs, budget, {.delta_layers = {2}}, short_answer), Error);
  CHECK_THROWS_AS(greedy_search(8, costs, budget, {.delta_layers = {2}}, broken), Error);
}
