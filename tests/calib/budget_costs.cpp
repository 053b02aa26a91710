// Budgets: what their text means, and what a layer costs.
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>

#include "calib/budget.h"
#include "calib/schedule/schedule.h"
#include "core/error.h"

using namespace deltacal;
using namespace deltacal::calib;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("budget: attended=R is read, everything else is refused with what to write") {
  CHECK(parse_budget("attended=3").value == 3);
  CHECK(parse_budget("attended=1").value == 1);
  CHECK(parse_budget("attended=2.5").value == 2.5);
  CHECK_THROWS_WITH(parse_budget("attended=0.25"),
                    ContainsSubstring("at least 1") && ContainsSubstring("attended=4"));
  CHECK(parse_budget("bytes=1000").kind == Goal::Kind::bytes);
  CHECK(parse_budget("bytes=1000").value == 1000);
  CHECK(parse_budget("bytes=1.5K").value == 1536);
  CHECK(parse_budget("bytes=64M").value == 64.0 * 1024 * 1024);
  CHECK(parse_budget("bytes=2G").value == 2.0 * 1024 * 1024 * 1024);
  CHECK(parse_budget("ms=12.5").kind == Goal::Kind::ms);
  CHECK(parse_budget("ms=12.5").value == 12.5);
  CHECK_THROWS_WITH(parse_budget("bytes=64MB"), ContainsSubstring("K, M and G are powers of 1024"));
  for (const char* text : {"",
                           "attended",
                           "attended=",
                           "attended=x",
                           "attended=3x",
                           "attended=nan",
                           "attended=inf",
                           "attended=-2",
                           "attended=0",
                           "ATTENDED=3",
                           "attended =3",
                           "3",
                           "bytes=",
                           "bytes=0",
                           "bytes=K",
                           "bytes=-1M",
                           "bytes=inf",
                           "bytes=64k",
                           "ms=",
                           "ms=0",
                           "ms=x",
                           "ms=3M"})
    CHECK_THROWS_AS(parse_budget(text), Error);
  CHECK(min_recall_goal(0.9).kind == Goal::Kind::min_recall);
  CHECK(max_kl_goal(0.02).kind == Goal::Kind::max_kl);
  for (double target : {-0.1, double(NAN), double(INFINITY)}) CHECK_THROWS_AS(max_kl_goal(target), Error);
  for (double target : {0.0, -1.0, 1.01, double(NAN)}) CHECK_THROWS_AS(min_recall_goal(target), Error);
}

TEST_CASE("budget: the cost of k pages is the sum over steps of the positions in the newest k pages") {
  for (const auto& ranges : std::vector<std::vector<config::StepRange>>{
           {{0, 1}}, {{15, 17}}, {{0, 16}}, {{7, 300}}, {{60, 700}, {33, 1024}, {1000, 1001}}}) {
    const StepCosts costs(ranges);
    for (int k = 1; k <= 70; ++k) {
      long long sum = 0;
      for (const auto& range : ranges)
        for (int t = range.first; t < range.end; ++t)
          for (int i = 0; i <= t; ++i) sum += t / 16 - i / 16 < k;
      CHECK(costs.at(k) == sum);
      if (k >= costs.max_pages()) CHECK(costs.at(k) == costs.full());
    }
  }
}

TEST_CASE("budget: costs agree with the attended-token ratio of a schedule") {
  const std::vector<config::StepRange> ranges{{60, 700}, {33, 1024}, {0, 517}};
  const StepCosts costs(ranges);
  config::Schedule schedule;
  schedule.layers = {{config::Role::full},
                     {config::Role::delta, 20, 3},
                     {config::Role::sparse, 3},
                     {config::Role::sparse, 20}};
  CHECK(double(4 * costs.full()) / double(schedule::attended_by(costs, schedule)) ==
        Catch::Approx(config::attended_ratio(schedule, ranges)));
}

TEST_CASE("budget: a Δ-layer whose lists serve several steps costs what the schedule attends to") {
  const std::vector<config::StepRange> ranges{{60, 700}, {33, 1024}, {0, 517}};
  const StepCosts costs(ranges);
  for (const int interval : {2, 5, 16}) {
    config::Schedule s;
    s.layers = {{config::Role::full}, {config::Role::delta, 20, 3}, {config::Role::sparse, 7}};
    s.refresh_interval = interval;
    const std::vector<int> k_pages{7, 20};
    LayerCosts layers = layer_costs(costs, k_pages);
    layers.listed = listed_costs(costs, k_pages, 3, interval);
    CHECK(layers.full + layers.listed[1][1] + layers.sparse[0] == schedule::attended_by(costs, s));
    CHECK(double(3 * costs.full()) / double(schedule::attended_by(costs, s)) ==
          Catch::Approx(config::attended_ratio(s, ranges)));
    CHECK(layers.listed[1][1] < layers.delta);
  }
  // Longer ones may have lists of fewer pages in force, and never cost more than is told.
  config::Schedule s;
  s.layers = {{config::Role::delta, 20, 3}, {config::Role::sparse, 7}};
  s.refresh_interval = 100;
  const std::vector<int> k_pages{7, 20};
  CHECK(listed_costs(costs, k_pages, 2, 100)[0][1] + costs.at(7) > schedule::attended_by(costs, s));
}

TEST_CASE("budget: lists that a signal makes cost each layer what its own steps attend to") {
  const std::vector<config::StepRange> ranges{{60, 140}, {33, 300}};
  const StepCosts costs(ranges);
  const std::vector<int> k_pages{2, 7};
  // Layer 0 makes its lists at every fourth step; layer 1 where a hash of the step says so, at the first in
  // any case.
  std::vector<std::vector<int32_t>> made_at;
  std::vector<long long> expected(2, 0);  // of layer 1, by k
  for (const auto& [first, end] : ranges) {
    std::vector<int32_t> made;
    for (int t = first; t < end; ++t) made.push_back(std::max(first, t - t % 4));
    for (int t = first; t < end; ++t) {
      const bool makes = t == first || t * 2654435761u % 5 == 0;
      made.push_back(makes ? t : made.back());
      for (int k = 0; k < 2; ++k)
        expected[size_t(k)] += makes || k_pages[size_t(k)] >= pages_seen(t)
                                   ? t + 1
                                   : (k_pages[size_t(k)] - 1) * page_size + t % page_size + 1;
    }
    made_at.push_back(std::move(made));
  }
  const auto listed = listed_costs(costs, k_pages, 2, made_at);
  CHECK(listed[0] == listed_costs(costs, k_pages, 2, 4)[0]);
  CHECK(listed[1] == expected);
}

TEST_CASE("budget: the largest sum of positions at a ratio is rounded down") {
  CHECK(attended_budget({10, 10, {}}, 1, 3.0) == 3);
  CHECK(attended_budget({10, 10, {}}, 3, 1.0) == 30);
  CHECK(attended_budget({999999999999LL, 999999999999LL, {}}, 3, 1.0) == 2999999999997LL);
  CHECK(attended_budget({10, 10, {}}, 3, 4.0) == 7);
}

TEST_CASE("budget: bytes are those of the keys and values that a step reads in the mean") {
  const long long bytes = bytes_per_position(3, 64, 2);
  CHECK(bytes == 3 * 64 * 2 + 3 * 64 * 2);
  const std::vector<config::StepRange> ranges{{60, 700}, {33, 1024}};
  const StepCosts costs(ranges);
  CHECK(costs.n_steps() == 640 + 991);
  // All layers full read exactly this many bytes, and one byte less is not enough.
  const int n_layers = 30;
  const double all = double(n_layers) * double(costs.full()) * double(bytes) / double(costs.n_steps());
  CHECK(bytes_budget(costs, std::ceil(all), bytes) >= n_layers * costs.full());
  CHECK(bytes_budget(costs, std::floor(all) - 1, bytes) < n_layers * costs.full());
  CHECK(bytes_budget(costs, 1e30, bytes) > n_layers * costs.full());
}

TEST_CASE("budget: ranges without steps are refused") {
  CHECK_THROWS_AS(StepCosts(std::vector<config::StepRange>{}), Error);
  CHECK_THROWS_AS(StepCosts(std::vector<config::StepRange>{{5, 5}}), Error);
  CHECK_THROWS_AS(StepCosts(std::vector<config::StepRange>{{-1, 5}}), Error);
}
