#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "calib/recall.h"
#include "core/error.h"
#include "support_maps.h"

namespace deltacal::calib {
namespace {

using test::missing;
using test::same;

const Grid small_grid{{2, 4, 8}, {1, 3}};

// Prompt-like start (U = 1), a partial last page, U = K exactly, and active steps of every K.
test::OwnedMaps mixed_maps(uint32_t seed, int n_kv_heads = 0) {
  return test::random_maps(seed, 4, {0, 15, 16, 63, 64, 65, 127, 128, 130, 143, 200},
                           {0, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6}, n_kv_heads);
}

double recall_at(const StepMaps& maps, int s, int target, int source, const Budget& b) {
  return test::mass_on(maps.mass_of(target, s), test::select(maps.score_of(source, s), b.k_pages, b.l_pages));
}

TEST_CASE("recall: pairs of the grid hold only L <= K") {
  CHECK(small_grid.pairs() == std::vector<Budget>{{2, 1}, {4, 1}, {4, 3}, {8, 1}, {8, 3}});
  CHECK(Grid{}.pairs().size() == 23);  // 4 * 6 less (4, 8)
}

TEST_CASE("recall: a grid that cannot be measured is refused") {
  CHECK_THROWS_AS(check(Grid{{}, {1}}), Error);
  CHECK_THROWS_AS(check(Grid{{4, 4}, {1}}), Error);
  CHECK_THROWS_AS(check(Grid{{8, 4}, {1}}), Error);
  CHECK_THROWS_AS(check(Grid{{4}, {0}}), Error);
  CHECK_THROWS_AS(check(Grid{{4}, {8}}), Error);
  CHECK_NOTHROW(check(Grid{}));
}

TEST_CASE("recall: mean, worst step and lost mass equal the definition on random maps") {
  for (uint32_t seed = 0; seed < 5; ++seed) {
    const test::OwnedMaps owned = mixed_maps(seed);
    const StepMaps maps = owned.view();
    RecallSums sums(small_grid, 4);
    sums.add(maps);
    const SampleRecall found = sums.finish("a", "p");
    REQUIRE(found.n_steps == maps.n_steps);
    const auto pairs = small_grid.pairs();
    for (int p = 0; p < std::ssize(pairs); ++p)
      for (int target = 0; target < 4; ++target)
        for (int source = 0; source < 4; ++source) {
          const auto cell = found.at(p, target, source);
          if (source > target) {
            REQUIRE(std::isnan(found.mean_active[cell]));
            REQUIRE(std::isnan(found.mean_lost[cell]));
            continue;
          }
          double worst = 2;
          const double mean = test::mean_over_steps(maps, [&](int s) {
            if (maps.seen(s) <= pairs[p].k_pages) return missing;
            worst = std::min(worst, recall_at(maps, s, target, source, pairs[p]));
            return recall_at(maps, s, target, source, pairs[p]);
          });
          const double lost = test::mean_over_steps(maps, [&](int s) {
            return maps.seen(s) > pairs[p].k_pages ? 1 - recall_at(maps, s, target, source, pairs[p]) : 0.0;
          });
          REQUIRE(same(found.mean_active[cell], mean));
          REQUIRE(same(found.worst[cell], worst));
          REQUIRE(same(found.mean_lost[cell], lost));
        }
  }
}

TEST_CASE("recall: the oracle holds the largest K masses, and no list beats it") {
  const test::OwnedMaps owned = mixed_maps(7);
  const StepMaps maps = owned.view();
  RecallSums sums(small_grid, 4);
  sums.add(maps);
  const SampleRecall found = sums.finish("a", "p");
  for (int k = 0; k < 3; ++k)
    for (int layer = 0; layer < 4; ++layer) {
      const double oracle = test::mean_over_steps(maps, [&](int s) {
        std::vector<float> mass(maps.mass_of(layer, s).begin(), maps.mass_of(layer, s).end());
        if (std::ssize(mass) <= small_grid.k_pages[k]) return missing;
        std::sort(mass.rbegin(), mass.rend());
        return std::accumulate(mass.begin(), mass.begin() + small_grid.k_pages[k], 0.0);
      });
      REQUIRE(same(found.oracle[k * 4 + layer], oracle));
    }
  const auto pairs = small_grid.pairs();
  for (int p = 0; p < std::ssize(pairs); ++p)
    for (int source = 0; source < 4; ++source) {
      const auto k = std::ranges::find(small_grid.k_pages, pairs[p].k_pages) - small_grid.k_pages.begin();
      CHECK(found.mean_active[found.at(p, 3, source)] <= found.oracle[k * 4 + 3] + 1e-6);
    }
}

TEST_CASE("recall: of each key/value head equals the definition") {
  const test::OwnedMaps owned = mixed_maps(3, 2);
  const StepMaps maps = owned.view();
  RecallSums sums(small_grid, 4);
  sums.add(maps);
  const SampleRecall found = sums.finish("a", "p");
  REQUIRE(found.n_kv_heads == 2);
  const auto pairs = small_grid.pairs();
  for (int p = 0; p < std::ssize(pairs); ++p)
    for (int target = 0; target < 4; ++target)
      for (int source = 0; source <= target; ++source)
        for (int g = 0; g < 2; ++g) {
          const double mean = test::mean_over_steps(maps, [&](int s) {
            if (maps.seen(s) <= pairs[p].k_pages) return missing;
            return test::mass_on(maps.group_mass_of(target, s, g),
                                 test::select(maps.score_of(source, s), pairs[p].k_pages, pairs[p].l_pages));
          });
          REQUIRE(same(found.group_active[found.at(p, target, source) * 2 + g], mean));
        }
}

TEST_CASE("recall: blocks of steps add up to the whole") {
  const test::OwnedMaps owned = mixed_maps(11, 3);
  RecallSums whole(small_grid, 4), parts(small_grid, 4);
  RecallHistogram one(5, 4), other(5, 4);
  whole.add(owned.view(), &one);
  for (int first = 0; first < owned.n_steps(); first += 4) {
    const test::OwnedMaps part = owned.slice(first, std::min(4, owned.n_steps() - first));
    parts.add(part.view(), &other);
  }
  const SampleRecall a = whole.finish("a", "p"), b = parts.finish("a", "p");
  for (std::size_t i = 0; i < a.mean_active.size(); ++i) {
    REQUIRE(same(a.mean_active[i], b.mean_active[i]));
    REQUIRE(same(a.mean_lost[i], b.mean_lost[i]));
    REQUIRE(same(a.worst[i], b.worst[i]));
  }
  for (std::size_t i = 0; i < a.group_active.size(); ++i) REQUIRE(same(a.group_active[i], b.group_active[i]));
  CHECK(same(one.quantile(3, 2, 1, 0.05), other.quantile(3, 2, 1, 0.05), 0));
}

TEST_CASE("recall: two identical layers recall as one does of itself") {
  test::OwnedMaps owned = mixed_maps(5);
  for (int s = 0; s < owned.n_steps(); ++s)
    for (int u = 0; u < owned.n_pages; ++u) {
      owned.score_at(1, s, u) = owned.score_at(0, s, u);
      owned.mass_at(1, s, u) = owned.mass_at(0, s, u);
    }
  RecallSums sums(small_grid, 4);
  sums.add(owned.view());
  const SampleRecall found = sums.finish("a", "p");
  for (int p = 0; p < 5; ++p) {
    CHECK(found.mean_active[found.at(p, 1, 0)] == found.mean_active[found.at(p, 0, 0)]);
    CHECK(found.mean_active[found.at(p, 1, 0)] == found.mean_active[found.at(p, 1, 1)]);
  }
}

TEST_CASE("recall: a hand-made case") {
  // 5 pages, the step sees all. Layer 0 prefers page 1, layer 1 has its mass on page 2.
  test::OwnedMaps owned = test::random_maps(0, 2, {79}, {0});
  const float score[2][5] = {{0, 9, 1, 0, 0}, {0, 0, 9, 0, 0}};
  const float mass[2][5] = {{0.1f, 0.6f, 0.1f, 0.1f, 0.1f}, {0.05f, 0.1f, 0.7f, 0.05f, 0.1f}};
  for (int l = 0; l < 2; ++l)
    for (int u = 0; u < 5; ++u) {
      owned.score_at(l, 0, u) = score[l][u];
      owned.mass_at(l, 0, u) = mass[l][u];
    }
  RecallSums sums(Grid{{2, 5}, {1}}, 2);
  sums.add(owned.view());
  const SampleRecall found = sums.finish("a", "p");
  CHECK(found.mean_active[found.at(0, 0, 0)] == Catch::Approx(0.7));  // pages 4 and 1
  CHECK(found.mean_active[found.at(0, 1, 0)] == Catch::Approx(0.2));
  CHECK(found.mean_active[found.at(0, 1, 1)] == Catch::Approx(0.8));
  CHECK(found.mean_lost[found.at(0, 1, 0)] == Catch::Approx(0.8));
  CHECK(std::isnan(found.mean_active[found.at(1, 1, 0)]));  // K = 5 = U: not active
  CHECK(found.mean_lost[found.at(1, 1, 0)] == 0);
}

TEST_CASE(
    "recall: a sample with no active step has no recall and loses nothing; without steps nothing is known") {
  const test::OwnedMaps owned = test::random_maps(0, 2, {3, 17, 31}, {0, 1, 2});
  RecallSums sums(Grid{{2}, {1}}, 2), none(Grid{{2}, {1}}, 2);
  sums.add(owned.view());
  const SampleRecall found = sums.finish("a", "p"), empty = none.finish("b", "q");
  CHECK(found.n_active == std::vector<int>{0});
  CHECK(std::isnan(found.mean_active[found.at(0, 1, 0)]));
  CHECK(std::isnan(found.oracle[1]));
  CHECK(found.mean_lost[found.at(0, 1, 0)] == 0);
  CHECK(std::isnan(empty.mean_lost[empty.at(0, 1, 0)]));
}

TEST_CASE("recall: the histogram's quantile lies within a bin of the sorted values'") {
  RecallHistogram histogram(1, 2);
  std::mt19937 random(1);
  std::vector<double> values;
  for (int i = 0; i < 777; ++i) {
    values.push_back(std::sqrt(random() / 4294967296.0));
    histogram.add(0, 1, 0, values.back());
  }
  std::sort(values.begin(), values.end());
  for (const double q : {0.0, 0.05, 0.5, 1.0}) {
    const double place = q * (values.size() - 1);
    const auto low = static_cast<std::size_t>(std::floor(place)),
               high = static_cast<std::size_t>(std::ceil(place));
    CHECK(histogram.quantile(0, 1, 0, q) >= values[low] - 1e-3);
    CHECK(histogram.quantile(0, 1, 0, q) <= values[high] + 1e-3);
  }
  CHECK(std::isnan(histogram.quantile(0, 1, 1, 0.5)));
  histogram.add(0, 0, 0, 1.0004);  // half precision can sum to a little more than 1
  CHECK(histogram.quantile(0, 0, 0, 0.05) == Catch::Approx(0.9995));
}

TEST_CASE("recall: maps that cannot be read are refused with the place") {
  test::OwnedMaps owned = mixed_maps(1);
  CHECK_NOTHROW(check(owned.view(), "trace a.h5"));
  owned.mass_at(1, 2, 0) = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_AS(check(owned.view(), "trace a.h5"), Error);
  owned.mass_at(1, 2, 0) = 0.5f;
  owned.steps.back() = 16 * owned.n_pages;  // would see one page more than there are
  CHECK_THROWS_AS(check(owned.view(), "trace a.h5"), Error);
  owned.steps = test::run_of_steps(0, owned.n_steps());
  owned.steps[3] = owned.steps[2];
  CHECK_THROWS_AS(check(owned.view(), "trace a.h5"), Error);
  owned.steps.pop_back();
  CHECK_THROWS_AS(check(owned.view(), "trace a.h5"), Error);
}

}  // namespace
}  // namespace deltacal::calib
