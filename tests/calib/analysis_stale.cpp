#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "calib/stale.h"
#include "support_maps.h"

namespace deltacal::calib {
namespace {

using test::missing;
using test::same;

const Grid small_grid{{2, 4, 8}, {1, 3}};

std::vector<double> recalls_with(std::vector<double> first) {
  first.resize(stale_lags.size(), missing);
  return first;
}

// Stale recall of step s for lag d by its definition; missing where t-d was not recorded in the burst, or
// U(t-d) <= K.
double stale_at(const StepMaps& maps, int layer, int s, int lag, const Budget& b) {
  for (int r = 0; r <= s; ++r) {
    if (maps.steps[r] != maps.steps[s] - lag || maps.burst[r] != maps.burst[s]) continue;
    if (maps.seen(r) <= b.k_pages) return missing;
    const auto old = test::select(maps.score_of(layer, r), b.k_pages, b.l_pages);
    std::set<int32_t> pages(old.begin() + b.l_pages, old.end());
    for (int i = 1; i <= b.l_pages; ++i) pages.insert(maps.seen(s) - i);
    return test::mass_on(maps.mass_of(layer, s), {pages.begin(), pages.end()});
  }
  return missing;
}

// A burst of 70 steps that grows from 4 to 8 pages and more, a short one, and one with a gap.
test::OwnedMaps long_maps(uint32_t seed) {
  std::vector<int32_t> steps = test::run_of_steps(60, 90), burst(90, 0);
  for (const int t : {200, 201, 202, 203, 260, 262, 266}) {
    steps.push_back(t);
    burst.push_back(t < 250 ? 1 : 2);
  }
  return test::random_maps(seed, 3, steps, burst);
}

TEST_CASE("stale recall: every lag, K and L equals the definition") {
  for (uint32_t seed = 0; seed < 3; ++seed) {
    const test::OwnedMaps owned = long_maps(seed);
    const StepMaps maps = owned.view();
    StaleSums sums(small_grid, 3);
    sums.add(maps);
    const SampleStale found = sums.finish();
    const auto pairs = small_grid.pairs();
    for (std::size_t d = 0; d < stale_lags.size(); ++d)
      for (std::size_t p = 0; p < pairs.size(); ++p)
        for (int l = 0; l < 3; ++l)
          REQUIRE(same(found.recall[(d * pairs.size() + p) * 3 + l], test::mean_over_steps(maps, [&](int s) {
                         return stale_at(maps, l, s, stale_lags[d], pairs[p]);
                       })));
    for (std::size_t p = 0; p < pairs.size(); ++p)
      for (int l = 0; l < 3; ++l)
        REQUIRE(same(found.window[p * 3 + l], test::mean_over_steps(maps, [&](int s) {
                       if (maps.seen(s) <= pairs[p].k_pages) return missing;
                       return test::mass_on(
                           maps.mass_of(l, s),
                           test::select(maps.score_of(l, s), pairs[p].l_pages, pairs[p].l_pages));
                     })));
  }
}

TEST_CASE("stale recall: lag 0 is the recall of a layer's own list") {
  const test::OwnedMaps owned = long_maps(5);
  StaleSums sums(small_grid, 3);
  RecallSums own(small_grid, 3);
  sums.add(owned.view());
  own.add(owned.view());
  const SampleStale found = sums.finish();
  const SampleRecall recall = own.finish("a", "p");
  for (int p = 0; p < 5; ++p)
    for (int l = 0; l < 3; ++l)
      CHECK(same(found.recall[p * 3 + l], recall.mean_active[recall.at(p, l, l)], 1e-7));
}

TEST_CASE("stale recall: lists of earlier blocks are remembered") {
  const test::OwnedMaps owned = long_maps(6);
  StaleSums whole(small_grid, 3), parts(small_grid, 3);
  whole.add(owned.view());
  for (int first = 0; first < owned.n_steps(); first += 7) {
    const test::OwnedMaps part = owned.slice(first, std::min(7, owned.n_steps() - first));
    parts.add(part.view());
  }
  const SampleStale a = whole.finish(), b = parts.finish();
  for (std::size_t i = 0; i < a.recall.size(); ++i) REQUIRE(same(a.recall[i], b.recall[i]));
  for (std::size_t i = 0; i < a.window.size(); ++i) REQUIRE(same(a.window[i], b.window[i]));
}

TEST_CASE("stale recall: pages between the old window and the new one are lost") {
  // Step 95 sees 6 pages, step 159 sees 10. K = 2, L = 1: the list of 95 is {5, best}; page 5 leaves the
  // window.
  std::vector<int32_t> steps = test::run_of_steps(95, 65);
  test::OwnedMaps owned = test::random_maps(0, 1, steps, std::vector<int32_t>(65, 0));
  for (int s = 0; s < 65; ++s)
    for (int u = 0; u < owned.n_pages; ++u) {
      owned.score_at(0, s, u) = u == 2;
      owned.mass_at(0, s, u) = u == 2 ? 0.5f : u == 5 ? 0.25f : u == pages_seen(steps[s]) - 1 ? 0.125f : 0;
    }
  StaleSums sums(Grid{{2}, {1}}, 1);
  sums.add(owned.view());
  CHECK(sums.finish().recall[7] == 0.625f);  // lag 64: pages 2 and 9, not 5
}

TEST_CASE("half-life: the first lag at or below the middle of lag 0 and the window") {
  CHECK(half_life(recalls_with({0.9, 0.8, 0.7, 0.6, 0.5, 0.45, 0.4, 0.35}), 0.3).lag == 4);  // middle 0.6
  const HalfLife at_once = half_life(recalls_with({0.9, 0.2}), 0.3);
  CHECK(at_once.lag == 1);
  CHECK_FALSE(at_once.greater_than.has_value());
}

TEST_CASE("half-life: greater than the largest recorded lag when that is still above the middle") {
  const HalfLife all = half_life(recalls_with({0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.8}), 0.3);
  CHECK_FALSE(all.lag.has_value());
  CHECK(all.greater_than == 64);
  CHECK(half_life(recalls_with({0.9, 0.9, missing, 0.9}), 0.3).greater_than == 4);
  CHECK(half_life(recalls_with({0.9}), 0.3).greater_than == 0);  // single steps: nothing but lag 0
}

TEST_CASE("half-life: null where the list adds less than 0.01 to the window, or nothing is known") {
  for (const HalfLife& none :
       {half_life(recalls_with({0.305, 0.1}), 0.3), half_life(recalls_with({}), missing)}) {
    CHECK_FALSE(none.lag.has_value());
    CHECK_FALSE(none.greater_than.has_value());
  }
}

}  // namespace
}  // namespace deltacal::calib
