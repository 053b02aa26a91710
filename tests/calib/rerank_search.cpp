// Re-ranking on losses that are made up: which candidates go on, which neighbours there are, when the search
// ends.
#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>
#include <set>

#include "calib/baselines.h"
#include "calib/rerank.h"
#include "calib/schedule/schedule.h"
#include "core/error.h"
#include "schedule_support.h"

using namespace deltacal;
using namespace deltacal::calib;
using Catch::Approx;
using config::Role;

namespace {

const std::vector<config::StepRange> ranges{{0, 1024}};

std::vector<std::string> problems_of(int n_samples) {
  std::vector<std::string> problems;
  for (int s = 0; s < n_samples; ++s) problems.push_back("p" + std::to_string(s));
  return problems;
}

// 8 layers, full up to the first Δ-layer.
config::Schedule schedule_with(std::vector<int> deltas, int k = 8) {
  return with_one_k(8, deltas[0], deltas, k, 2);
}

std::vector<int> deltas_of(const config::Schedule& schedule) {
  std::vector<int> deltas;
  for (int layer = 0; layer < 8; ++layer)
    if (schedule.layers[layer].role == Role::delta) deltas.push_back(layer);
  return deltas;
}

// `gap_of(schedule, sample)`, with what was asked for.
struct Asked {
  std::vector<std::array<int, 3>> calls;  // schedules, first, n
  std::function<double(const config::Schedule&, int)> gap_of;
  EvaluateSamples evaluate() {
    return [this](std::span<const config::Schedule> schedules, int first, int n) {
      calls.push_back({static_cast<int>(schedules.size()), first, n});
      std::vector<std::vector<double>> gaps;
      for (const auto& schedule : schedules) {
        gaps.emplace_back();
        for (int s = first; s < first + n; ++s) gaps.back().push_back(gap_of(schedule, s));
      }
      return gaps;
    };
  }
};

NeighbourRules rules_of(const StepCosts& costs, long long budget) {
  return {2,
          {4, 8, 16},
          budget,
          [&costs](const config::Schedule& s) { return schedule::attended_by(costs, s); },
          [](std::span<const int> deltas) {
            return std::optional(schedule_with({deltas.begin(), deltas.end()}));
          }};
}

}  // namespace

TEST_CASE("rerank: halving keeps the better half on twice as many samples, none twice") {
  // Candidate i has its first Δ-layer 2 and a second at 3 + i; gaps fall with i, but on sample 0 candidate 0
  // is best.
  std::vector<config::Schedule> candidates;
  for (int second : {4, 5, 6, 3, 7}) candidates.push_back(schedule_with({2, second}, 8 + second));
  Asked asked{{}, [](const config::Schedule& s, int sample) {
                int k = 0;
                for (const auto& plan : s.layers) k = std::max(k, plan.k_pages);
                return sample == 0 && k == 12 ? -1.0 : 20.0 - k;
              }};
  RerankOptions options{.problems = problems_of(7), .bootstrap = {}, .first_samples = 1, .max_rounds = 0};
  const auto found = rerank(candidates, asked.evaluate(), options);
  // 5 on sample 0; 3 on 1; 2 on 2-3; 1 left on 4-6.
  const std::vector<std::array<int, 3>> wanted{{5, 0, 1}, {3, 1, 1}, {2, 2, 2}, {1, 4, 3}};
  CHECK(asked.calls == wanted);
  CHECK(found.n_evaluated == 5 + 3 + 4 + 3);
  REQUIRE(found.rounds.size() == 4);
  CHECK(found.rounds[0].tries[0].change == "candidate 0");  // by sample 0 alone
  CHECK(found.rounds[0].tries[1].change == "candidate 4");
  CHECK(found.rounds[0].tries[2].kept);
  CHECK_FALSE(found.rounds[0].tries[3].kept);
  CHECK(found.rounds[2].n_samples == 4);
  CHECK(found.candidate == 4);
  CHECK(found.schedule == candidates[4]);
  CHECK(found.nll_gap == std::vector<double>(7, 5.0));
  CHECK(found.stopped == "no local search: not asked for");
  options.halving_alone = "no local search: it has a reason";
  asked.calls.clear();
  CHECK(rerank(candidates, asked.evaluate(), options).stopped == options.halving_alone);
}

TEST_CASE("rerank: of equal candidates the earlier stays, one alone is run on all samples at once") {
  Asked asked{{}, [](const config::Schedule&, int) { return 0.5; }};
  const std::vector<config::Schedule> candidates{schedule_with({2, 4}), schedule_with({2, 5}),
                                                 schedule_with({2, 6})};
  RerankOptions options{.problems = problems_of(6), .bootstrap = {}, .first_samples = 2, .max_rounds = 0};
  CHECK(rerank(candidates, asked.evaluate(), options).candidate == 0);
  asked.calls.clear();
  rerank(std::vector{candidates[1]}, asked.evaluate(), options);
  CHECK(asked.calls == std::vector<std::array<int, 3>>{{1, 0, 6}});
}

TEST_CASE("neighbours: every single step of the Δ-layers within the budget, once") {
  const StepCosts costs(ranges);
  const auto from = schedule_with({2, 5});
  auto rules = rules_of(costs, 8 * costs.full());
  rules.k_pages = {8};  // no pages to move
  std::set<std::vector<int>> sets;
  for (const auto& neighbour : neighbours_of(from, rules)) {
    CHECK_NOTHROW(config::check(neighbour.schedule, "test"));
    sets.insert(deltas_of(neighbour.schedule));
  }
  // 2 to 3: {3, 5}; 2 to 4: {5}, as a Δ-layer before another one is full; 5 to 3: {3}; 5 to 4; 5 to 6; not to
  // 7, the last. 3 more: {3, 5} again; 4 more: {2, 5} with 4 full; 6 more: {2, 6} with 5 full. 2 less: {5}
  // again; 5 less.
  CHECK(sets == std::set<std::vector<int>>{{3, 5}, {5}, {3}, {2, 4}, {2, 6}, {2, 5}, {2}});
  CHECK(neighbours_of(from, rules).size() == 8);
  rules.budget = costs.full();
  CHECK(neighbours_of(from, rules).empty());
  rules.budget = 8 * costs.full();
  rules.solve_for = nullptr;
  CHECK(neighbours_of(from, rules).empty());
}

TEST_CASE("neighbours: pages move between two sparse layers, the lists follow, L stays covered") {
  const StepCosts costs(ranges);
  auto from = schedule_with({2, 5});  // sparse 3, 4 | 6, 7, all k 8
  from = with_k(from, 4, 16);
  CHECK(from.layers[2].k_pages == 16);
  auto rules = rules_of(costs, schedule::attended_by(costs, from));
  rules.solve_for = nullptr;
  const auto found = neighbours_of(from, rules);
  // Down: 8 to 4 at 3, 6, 7 pays for nothing as large as 8 to 16 elsewhere; 16 to 8 at 4 pays for 8 to 16 at
  // 3, 6, 7.
  REQUIRE(found.size() == 3);
  CHECK(found[0].change == "k 16 to 8 at 4, 8 to 16 at 3");
  CHECK(found[0].schedule.layers[2].k_pages == 16);
  CHECK(found[1].change == "k 16 to 8 at 4, 8 to 16 at 6");
  CHECK(found[1].schedule.layers[2].k_pages == 8);
  CHECK(found[1].schedule.layers[5].k_pages == 16);
  for (const auto& neighbour : found) {
    CHECK_NOTHROW(config::check(neighbour.schedule, "test"));
    CHECK(schedule::attended_by(costs, neighbour.schedule) <= rules.budget);
  }
  rules.budget = 8 * costs.full();
  CHECK(neighbours_of(from, rules).size() == 4 * 3 - 3);  // 4 cannot go up
  rules.k_pages = {1, 8, 16};
  for (const auto& neighbour : neighbours_of(from, rules))  // 1 is below L = 2
    CHECK(neighbour.change.starts_with("k 16 to 8 at 4"));
}

TEST_CASE("neighbours: all keep the page score") {
  const StepCosts costs(ranges);
  auto from = schedule_with({2, 5});
  from.page_score = PageScore::max;
  const auto found = neighbours_of(from, rules_of(costs, 8 * costs.full()));
  CHECK(!found.empty());
  for (const auto& neighbour : found) {
    CAPTURE(neighbour.change);
    CHECK(neighbour.schedule.page_score == PageScore::max);
  }
}

TEST_CASE("neighbours: the best k for given Δ-layers is what trying everything finds") {
  for (unsigned seed = 0; seed < 8; ++seed) {
    const auto edges =
        test::random_edges(6, {4, 8}, {1, 4}, seed % 2 ? test::Losses::uniform : test::Losses::holes, seed);
    const auto costs = layer_costs(StepCosts(ranges), edges.k_pages);
    const long long budget = attended_budget(costs, 6, 1.4);
    for (const auto& deltas : {std::vector{1}, std::vector{2}, std::vector{1, 3}, std::vector{1, 2, 4}}) {
      unsigned set = 0;
      for (int layer : deltas) set |= 1u << layer;
      double least = INFINITY;  // of the schedules with exactly these Δ-layers
      schedule::Options first_full;
      first_full.full_layers = 1;
      test::EverySchedule(edges, costs, first_full).run([&](unsigned other, long long cost, double loss) {
        if (other == set && cost <= budget) least = std::min(least, loss);
      });
      const auto found = solve_with_deltas(edges, costs, budget, deltas, {.full_layers = 1});
      CAPTURE(seed, set, least);
      if (!found) {
        CHECK(std::isinf(least));
        continue;
      }
      CHECK_NOTHROW(config::check(*found, "test"));
      CHECK(schedule::attended_by(StepCosts(ranges), *found) <= budget);
      for (int layer : deltas) CHECK(found->layers[layer].role != Role::sparse);
      CHECK((test::set_of(*found) | set) == set);  // no other Δ-layers
      if (test::set_of(*found) == set)
        CHECK(schedule::loss_of(edges, *found) == Approx(least));
      else
        CHECK(schedule::loss_of(edges, *found) <= least + 1e-12);
    }
  }
}

TEST_CASE("rerank: the local search walks to the best set as long as a step is certain") {
  const StepCosts costs(ranges);
  // Every layer's distance to its Δ-layer is lost, on each sample alike: the more Δ-layers the better.
  const auto distance = [](const config::Schedule& s, int sample) {
    double sum = 0;
    for (int layer = 0; layer < 8; ++layer)
      if (s.layers[layer].role == Role::sparse) sum += layer - config::source_of(s, layer);
    return sum * (1 + 0.1 * sample);
  };
  Asked asked{{}, distance};
  const auto start = schedule_with({2});
  RerankOptions options{.problems = problems_of(5),
                        .bootstrap = {.resamples = 200},
                        .first_samples = 5,
                        .max_rounds = 10,
                        .max_neighbours = 100,
                        .rules = rules_of(costs, 4 * costs.full() + 4 * costs.at(8))};  // two Δ-layers
  options.rules.k_pages = {8};
  const auto found = rerank(std::vector{start}, asked.evaluate(), options);
  // Two Δ-layers: 2 and 5 leave 1 + 2 + 1 + 2; 2 and 4 leave 1 + 1 + 2 + 3.
  CHECK(deltas_of(found.schedule) == std::vector{2, 5});
  CHECK(found.nll_gap[0] == 6);
  CHECK(found.stopped == "no neighbour within the budget is left");  // the other pairs were tried at once
  REQUIRE(found.rounds.size() == 2);                                 // halving, and the step to {2, 5}
  CHECK(std::ranges::count_if(found.rounds[1].tries, &RerankTry::kept) == 1);
  for (const auto& tried : found.rounds[1].tries) {
    CHECK(schedule::attended_by(costs, tried.schedule) <= options.rules.budget);
    CHECK(tried.improvement.mean == Approx(distance(start, 2) - tried.nll_gap));
  }
  options.max_rounds = 1;
  CHECK(rerank(std::vector{start}, asked.evaluate(), options).stopped == "the limit of 1 rounds");
}

TEST_CASE("rerank: a better mean is not enough, its paired interval must be above 0") {
  const StepCosts costs(ranges);
  double better_on_all = 0;
  // The neighbour {2, 5} of {2, 4} wins much on sample 0 and loses a little elsewhere.
  Asked asked{{}, [&](const config::Schedule& s, int sample) {
                if (deltas_of(s) != std::vector{2, 5}) return deltas_of(s) == std::vector{2, 4} ? 1.0 : 2.0;
                return (sample == 0 ? 0.0 : 1.01) - better_on_all;
              }};
  RerankOptions options{.problems = problems_of(8),
                        .bootstrap = {.resamples = 500},
                        .first_samples = 2,
                        .rules = rules_of(costs, 8 * costs.full())};
  const auto unsure = rerank(std::vector{schedule_with({2, 4})}, asked.evaluate(), options);
  CHECK(deltas_of(unsure.schedule) == std::vector{2, 4});
  CHECK(unsure.rounds.size() == 2);  // one candidate on all samples, and a step that is not taken
  CHECK(std::ranges::count_if(unsure.rounds[1].tries, &RerankTry::kept) == 0);
  CHECK(unsure.stopped.find("not certain") != std::string::npos);
  better_on_all = 0.02;
  CHECK(deltas_of(rerank(std::vector{schedule_with({2, 4})}, asked.evaluate(), options).schedule) ==
        std::vector{2, 5});
  options.problems = {"a", "a", "a", "b", "b", "b", "c", "c"};
  const auto few = rerank(std::vector{schedule_with({2, 4})}, asked.evaluate(), options);
  CHECK(few.rounds.size() == 1);  // nothing could be certain, so nothing is run
  CHECK(few.stopped.find("fewer than 4 problems: 3") != std::string::npos);
}

TEST_CASE("rerank: the neighbours predicted best are evaluated, and none again") {
  const StepCosts costs(ranges);
  Asked asked{{}, [](const config::Schedule& s, int) {
                double sum = 0;
                for (int layer = 0; layer < 8; ++layer)
                  if (s.layers[layer].role == Role::sparse) sum += layer - config::source_of(s, layer);
                return sum;
              }};
  RerankOptions options{.problems = problems_of(4),
                        .bootstrap = {.resamples = 50},
                        .first_samples = 4,
                        .max_rounds = 5,
                        .max_neighbours = 3,
                        .rules = rules_of(costs, 8 * costs.full())};
  options.predicted = [&](const config::Schedule& s) { return asked.gap_of(s, 0); };
  const auto found = rerank(std::vector{schedule_with({2, 4})}, asked.evaluate(), options);
  std::vector<config::Schedule> tried;
  for (const auto& round : found.rounds) {
    CHECK(round.tries.size() <= 3);
    for (const auto& one : round.tries) {
      CHECK(std::ranges::find(tried, one.schedule) == tried.end());
      tried.push_back(one.schedule);
    }
  }
  // The prediction is right, so the best of all neighbours is among the three.
  double least = INFINITY;
  for (const auto& neighbour : neighbours_of(schedule_with({2, 4}), options.rules))
    least = std::min(least, asked.gap_of(neighbour.schedule, 0));
  CHECK(std::ranges::min(found.rounds[1].tries, {}, &RerankTry::nll_gap).nll_gap == least);
}

TEST_CASE("rerank: nonsense is refused") {
  Asked asked{{}, [](const config::Schedule&, int) { return NAN; }};
  const std::vector one{schedule_with({2})};
  RerankOptions options{.problems = problems_of(4), .bootstrap = {}, .max_rounds = 0};
  CHECK_THROWS_AS(rerank(one, asked.evaluate(), options), Error);  // the gap is no number
  CHECK_THROWS_AS(rerank({}, asked.evaluate(), options), Error);
  const EvaluateSamples none = [](auto, int, int) { return std::vector<std::vector<double>>{}; };
  const EvaluateSamples few = [](auto, int, int) { return std::vector<std::vector<double>>{{1}}; };
  CHECK_THROWS_AS(rerank(one, none, options), Error);
  CHECK_THROWS_AS(rerank(one, few, options), Error);
  asked.gap_of = [](const config::Schedule&, int) { return 1; };
  CHECK_NOTHROW(rerank(one, asked.evaluate(), options));
  options.first_samples = 0;
  CHECK_THROWS_AS(rerank(one, asked.evaluate(), options), Error);
  options.first_samples = 1;
  options.max_rounds = 1;  // without a cost
  CHECK_THROWS_AS(rerank(one, asked.evaluate(), options), Error);
  options.problems.clear();
  CHECK_THROWS_AS(rerank(one, asked.evaluate(), options), Error);
}
