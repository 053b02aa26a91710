#include "config/schedule.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <limits>
#include <random>
#include <set>

#include "support/scratch.h"

using namespace deltacal;
using namespace deltacal::config;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;

namespace {

constexpr LayerPlan full{Role::full, 0, 0};
LayerPlan delta(int k, int l) {
  return {Role::delta, k, l};
}
LayerPlan sparse(int k) {
  return {Role::sparse, k, 0};
}

std::string error(std::vector<LayerPlan> layers) {
  return test::error_of([&] { check({std::move(layers)}, "c.json"); });
}

// The set of positions itself: pages in a random order but for the newest, which every list begins with.
long long attended_by_sets(const Schedule& schedule, int t, std::mt19937& random) {
  long long sum = 0;
  for (const LayerPlan& layer : schedule.layers) {
    std::vector<int> pages;
    for (int page = 0; 16 * page <= t; ++page) pages.insert(pages.begin(), page);
    std::shuffle(pages.begin() + 1, pages.end(), random);
    if (layer.role == Role::sparse && layer.k_pages < static_cast<int>(pages.size()))
      pages.resize(static_cast<size_t>(layer.k_pages));
    std::set<int> positions;
    for (const int page : pages)
      for (int i = 0; i < 16; ++i)
        if (16 * page + i <= t) positions.insert(16 * page + i);
    sum += static_cast<long long>(positions.size());
  }
  return sum;
}

const Schedule mixed{
    {full, full, delta(4, 2), sparse(2), sparse(4), delta(7, 1), sparse(1), full, sparse(7)}};

}  // namespace

TEST_CASE("schedule: attended positions equal the sets of positions") {
  std::mt19937 random(1);
  for (int t = 0; t < 200; ++t) {
    INFO("step " << t);
    REQUIRE(attended_positions(mixed, t, 0) == attended_by_sets(mixed, t, random));
  }
}

TEST_CASE("schedule: the attended-token ratio equals the sums over sets, over several sequences") {
  std::mt19937 random(2);
  const std::vector<std::vector<StepRange>> cases{
      {{0, 1}}, {{0, 200}}, {{37, 150}}, {{64, 64}, {16, 17}}, {{0, 16}, {10, 129}, {111, 112}, {0, 0}}};
  for (const auto& sequences : cases) {
    long long all = 0, kept = 0;
    for (const auto& [first, end] : sequences)
      for (int t = first; t < end; ++t) {
        all += (t + 1) * static_cast<long long>(mixed.layers.size());
        kept += attended_by_sets(mixed, t, random);
      }
    CHECK(attended_ratio(mixed, sequences) == static_cast<double>(all) / static_cast<double>(kept));
  }
  CHECK(attended_ratio({{full, full}}, {{0, 1000}}) == 1);
}

TEST_CASE("schedule: the ratio of very long sequences does not overflow") {
  constexpr int most = std::numeric_limits<int>::max();
  const double ratio = attended_ratio({{delta(1, 1), sparse(1)}}, std::vector<StepRange>(100, {0, most}));
  CHECK(ratio > 1.99);
  CHECK(ratio < 2);
}

TEST_CASE("schedule: a ratio over no steps, or steps that are no range, is an error") {
  CHECK_THAT(test::error_of([] { attended_ratio(mixed, {}); }), ContainsSubstring("at least one step"));
  CHECK_THAT(test::error_of([] { attended_ratio(mixed, {{5, 5}}); }), ContainsSubstring("at least one step"));
  CHECK_THAT(test::error_of([] { attended_ratio(mixed, {{6, 5}}); }), ContainsSubstring("no range"));
}

TEST_CASE("schedule: check refuses what cannot run, naming the layer") {
  CHECK(test::error_of([] { check(mixed, "c"); }) == "no error");
  CHECK_THAT(error({}), ContainsSubstring("layers is empty"));
  CHECK_THAT(error({full, sparse(4), delta(4, 1)}),
             StartsWith("2: c.json: layers[1] is sparse, but no delta layer comes before it"));
  CHECK_THAT(error({delta(4, 5)}), ContainsSubstring("layers[0].k_pages is 4, below its l_pages 5"));
  CHECK_THAT(error({delta(4, 0)}), ContainsSubstring("layers[0].l_pages is 0"));
  CHECK_THAT(error({delta(4, 2), sparse(1)}),
             ContainsSubstring("layers[1].k_pages is 1, below the l_pages 2 of layers[0]"));
  CHECK_THAT(error({delta(4, 2), full, sparse(5)}),
             ContainsSubstring("layers[2].k_pages is 5, but the list of layers[0] has only 4"));
  CHECK_THAT(error({delta(9, 1), delta(4, 2), sparse(5)}),
             ContainsSubstring("the list of layers[1] has only 4"));
  CHECK_THAT(error({delta(4, 2), {Role::sparse, 4, 1}}), ContainsSubstring("layers[1].l_pages"));
  CHECK_THAT(error({{Role::full, 3, 0}}), ContainsSubstring("layers[0]: a full layer"));
  CHECK(error({delta(4, 4), sparse(4)}) == "no error");
  CHECK_THAT(test::error_of([] { check({{full}, -1}, "c"); }), ContainsSubstring("position_bias"));
  CHECK_THAT(test::error_of([] {
               check({{full}, std::numeric_limits<double>::quiet_NaN()}, "c");
             }),
             ContainsSubstring("position_bias"));
}

TEST_CASE("schedule: check refuses a refresh that cannot be") {
  const auto with = [](int interval, std::optional<AdaptiveRefresh> adaptive) {
    Schedule schedule = mixed;
    schedule.refresh_interval = interval;
    schedule.refresh = adaptive;
    return test::error_of([&] { check(schedule, "c"); });
  };
  CHECK(with(8, {}) == "no error");
  CHECK(with(1, AdaptiveRefresh{0.9, 16}) == "no error");
  CHECK_THAT(with(0, {}), ContainsSubstring("c: refresh_interval is 0, expected 1 or more"));
  CHECK_THAT(with(2, AdaptiveRefresh{0.9, 16}), ContainsSubstring("not both"));
  CHECK_THAT(with(1, AdaptiveRefresh{1.1, 16}), ContainsSubstring("refresh.threshold is 1.1"));
  CHECK_THAT(with(1, AdaptiveRefresh{0.9, 0}), ContainsSubstring("refresh.max_interval is 0"));
}

TEST_CASE("schedule: with refresh, attended positions equal a decoder's lists, page by page") {
  // What each Δ-layer last listed: random pages after the window, kept until its next list.
  std::mt19937 random(5);
  for (const int interval : {2, 3, 8, 16, 40})
    for (const int first : {0, 7, 64, 101}) {
      Schedule schedule = mixed;
      schedule.refresh_interval = interval;
      std::vector<std::vector<int>> ranked(mixed.layers.size());  // after the window
      long long all = 0, kept = 0;
      for (int t = first; t < 260; ++t) {
        long long attended = 0;
        std::vector<int> list;
        for (size_t layer = 0; layer < mixed.layers.size(); ++layer) {
          const LayerPlan& plan = mixed.layers[layer];
          const int pages = t / 16 + 1;
          const bool makes = t == first || t % interval == 0;
          if (plan.role == Role::delta) {
            if (makes) {
              ranked[layer].clear();
              for (int u = 0; u < pages - plan.l_pages; ++u) ranked[layer].push_back(u);
              std::ranges::shuffle(ranked[layer], random);
              if (plan.k_pages - plan.l_pages < static_cast<int>(ranked[layer].size()))
                ranked[layer].resize(static_cast<size_t>(plan.k_pages - plan.l_pages));
            }
            list.clear();
            for (int u = pages - 1; u >= std::max(0, pages - plan.l_pages); --u) list.push_back(u);
            list.insert(list.end(), ranked[layer].begin(), ranked[layer].end());
          }
          if (plan.role == Role::full || plan.k_pages >= pages || (plan.role == Role::delta && makes)) {
            attended += t + 1;
            continue;
          }
          for (int i = 0; i < std::min(plan.k_pages, static_cast<int>(list.size())); ++i)
            attended += list[static_cast<size_t>(i)] == pages - 1 ? t % 16 + 1 : 16;
        }
        CAPTURE(interval, first, t);
        REQUIRE(attended_positions(schedule, t, first) == attended);
        all += (t + 1) * static_cast<long long>(mixed.layers.size());
        kept += attended;
      }
      CHECK(attended_ratio(schedule, {{first, 260}}) == static_cast<double>(all) / static_cast<double>(kept));
    }
}

TEST_CASE("schedule: what adaptive refresh attends to is not told without a run") {
  Schedule schedule = mixed;
  schedule.refresh = AdaptiveRefresh{0.9, 16};
  CHECK_THAT(test::error_of([&] { attended_ratio(schedule, {{0, 10}}); }), ContainsSubstring("adaptive refresh"));
  CHECK_THAT(test::error_of([&] { attended_positions(schedule, 5, 0); }), ContainsSubstring("adaptive refresh"));
}

TEST_CASE("schedule: the source of a sparse layer is the nearest delta layer below it") {
  CHECK(source_of(mixed, 3) == 2);
  CHECK(source_of(mixed, 4) == 2);
  CHECK(source_of(mixed, 6) == 5);
  CHECK(source_of(mixed, 8) == 5);
  CHECK_THAT(test::error_of([] { source_of(mixed, 2); }), ContainsSubstring("layers[2]"));
}

TEST_CASE("schedule: one line for people") {
  CHECK(describe(mixed) == "full 0-1, 7 · delta 2, 5 · sparse k 1-7, L 1-2");
  CHECK(describe({{full, delta(16, 4), sparse(16), sparse(16)}}) == "full 0 · delta 1 · sparse k 16, L 4");
  CHECK(describe({{full, full}}) == "full 0-1");
  Schedule refreshed{{full, delta(16, 4), sparse(16)}};
  refreshed.refresh_interval = 8;
  CHECK(describe(refreshed) == "full 0 · delta 1 · sparse k 16, L 4 · lists every 8 steps");
  refreshed.refresh_interval = 1;
  refreshed.refresh = AdaptiveRefresh{0.75, 32};
  CHECK(describe(refreshed) ==
        "full 0 · delta 1 · sparse k 16, L 4 · lists at query cosine below 0.75, at least every 32 steps");
  CHECK(describe({{delta(8, 1), sparse(8)}, 0, PageScore::max}) == "delta 0 · sparse k 8, L 1 · score max");
}
