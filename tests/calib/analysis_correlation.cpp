#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "calib/correlation.h"
#include "calib/drift.h"
#include "support_maps.h"

namespace deltacal::calib {
namespace {

using test::missing;
using test::same;

double cosine(std::span<const float> a, std::span<const float> b, std::size_t n) {
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < n; ++i)
    ab += double(a[i]) * b[i], aa += double(a[i]) * a[i], bb += double(b[i]) * b[i];
  return aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : missing;
}

double pearson(std::span<const float> a, std::span<const float> b) {
  const double n = static_cast<double>(a.size());
  double ma = 0, mb = 0, ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) ma += a[i] / n, mb += b[i] / n;
  for (std::size_t i = 0; i < a.size(); ++i)
    ab += (a[i] - ma) * (b[i] - mb), aa += (a[i] - ma) * (a[i] - ma), bb += (b[i] - mb) * (b[i] - mb);
  return aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : missing;
}

double jaccard(std::span<const float> a, std::span<const float> b, const Budget& budget) {
  const auto pa = test::select(a, budget.k_pages, budget.l_pages),
             pb = test::select(b, budget.k_pages, budget.l_pages);
  std::set<int32_t> either(pa.begin(), pa.end());
  either.insert(pb.begin(), pb.end());
  return static_cast<double>(pa.size() + pb.size() - either.size()) / static_cast<double>(either.size());
}

TEST_CASE("correlation: cosine, Pearson and Jaccard equal their definitions over the active steps") {
  const Budget budget{4, 2};
  for (uint32_t seed = 0; seed < 5; ++seed) {
    // 40 steps: more than one slice of the parallel sum; the first see no more than K pages.
    const test::OwnedMaps owned =
        test::random_maps(seed, 5, test::run_of_steps(40, 40), std::vector<int32_t>(40, 0));
    const StepMaps maps = owned.view();
    CorrelationSums sums(budget, 5);
    sums.add(maps);
    const SampleCorrelation found = sums.finish();
    const auto active = [&](int s) { return maps.seen(s) > budget.k_pages; };
    for (int l = 0; l < 5; ++l)
      for (int m = 0; m < 5; ++m) {
        const auto a = [&](int s) { return maps.score_of(l, s); };
        const auto b = [&](int s) { return maps.score_of(m, s); };
        const auto mean = [&](auto value) {
          return test::mean_over_steps(maps, [&](int s) { return active(s) ? value(s) : missing; });
        };
        REQUIRE(same(found.cosine(l, m), mean([&](int s) { return cosine(a(s), b(s), a(s).size()); })));
        REQUIRE(same(found.pearson(l, m), mean([&](int s) { return pearson(a(s), b(s)); })));
        REQUIRE(same(found.jaccard(l, m), mean([&](int s) { return jaccard(a(s), b(s), budget); })));
      }
  }
}

TEST_CASE(
    "correlation: of a constant layer Pearson is missing and the cosine is there; of an all-zero one "
    "neither") {
  test::OwnedMaps owned = test::random_maps(1, 3, {100, 101}, {0, 0});
  for (int s = 0; s < 2; ++s)
    for (int u = 0; u < 7; ++u) {
      owned.score_at(0, s, u) = 0.1f;  // not a sum of powers of two: its mean is rounded
      owned.score_at(1, s, u) = 0;
    }
  CorrelationSums sums({4, 1}, 3);
  sums.add(owned.view());
  const SampleCorrelation found = sums.finish();
  CHECK(std::isnan(found.pearson(0, 0)));
  CHECK(std::isnan(found.pearson(0, 2)));
  CHECK(std::isnan(found.pearson(2, 1)));
  CHECK(found.pearson(2, 2) == Catch::Approx(1));
  CHECK(found.cosine(0, 0) == Catch::Approx(1));
  CHECK(found.cosine(0, 2) > 0);
  CHECK(std::isnan(found.cosine(1, 1)));
  CHECK(std::isnan(found.cosine(1, 2)));
  CHECK(found.jaccard(0, 1) == 1);  // ties alone: both choose the lowest pages
}

TEST_CASE("correlation: a NaN score leaves that step out of the layer's correlations") {
  test::OwnedMaps owned = test::random_maps(2, 2, {100, 101}, {0, 0});
  const test::OwnedMaps second = owned.slice(1, 1);
  owned.score_at(1, 0, 3) = std::numeric_limits<float>::quiet_NaN();
  CorrelationSums sums({4, 1}, 2), alone({4, 1}, 2);
  sums.add(owned.view());
  alone.add(second.view());
  CHECK(same(sums.finish().pearson(1, 0), alone.finish().pearson(1, 0), 1e-12));
  CHECK(same(sums.finish().cosine(1, 0), alone.finish().cosine(1, 0), 1e-12));
}

TEST_CASE("correlation: without an active step everything is missing") {
  const test::OwnedMaps owned = test::random_maps(3, 2, {20, 40}, {0, 1});
  CorrelationSums sums({4, 1}, 2);
  sums.add(owned.view());
  CHECK(sums.finish().cosine.array().isNaN().all());
  CHECK(sums.finish().jaccard.array().isNaN().all());
}

// ---- drift ----

// Two bursts, a gap within the second, and a burst that begins where the one before ends.
test::OwnedMaps burst_maps(uint32_t seed) {
  return test::random_maps(seed, 3, {14, 15, 16, 17, 40, 41, 43, 44, 45, 46}, {0, 0, 0, 0, 1, 1, 1, 2, 2, 2});
}

TEST_CASE("drift: over layers and steps equals the definition, within bursts only") {
  for (uint32_t seed = 0; seed < 5; ++seed) {
    const test::OwnedMaps owned = burst_maps(seed);
    const StepMaps maps = owned.view();
    DriftSums sums(3);
    sums.add(maps);
    const SampleDrift found = sums.finish();
    CHECK(std::isnan(found.layer[0]));
    for (int l = 0; l < 3; ++l) {
      if (l > 0)
        REQUIRE(same(found.layer[l], test::mean_over_steps(maps, [&](int s) {
                       return 1 - cosine(maps.score_of(l, s), maps.score_of(l - 1, s), maps.seen(s));
                     })));
      double sum = 0;
      int n = 0;
      for (const int s : {1, 2, 3, 5, 8, 9}) {
        const double c = cosine(maps.score_of(l, s), maps.score_of(l, s - 1), maps.seen(s - 1));
        if (!std::isnan(c)) sum += 1 - c, ++n;
      }
      REQUIRE(same(found.step[l], sum / n));
    }
  }
}

TEST_CASE("drift: a step at the start of a block still meets the last one of the block before") {
  const test::OwnedMaps owned = burst_maps(9);
  DriftSums whole(3), parts(3);
  whole.add(owned.view());
  for (int s = 0; s < owned.n_steps(); ++s) {
    const test::OwnedMaps part = owned.slice(s, 1);
    parts.add(part.view());
  }
  for (int l = 0; l < 3; ++l) {
    CHECK(same(whole.finish().step[l], parts.finish().step[l], 1e-15));
    CHECK(same(whole.finish().layer[l], parts.finish().layer[l], 1e-15));
  }
}

TEST_CASE(
    "drift: identical layers do not drift, single steps have no step drift, all-zero scores no drift at "
    "all") {
  test::OwnedMaps owned = test::random_maps(4, 3, {50, 60, 70}, {0, 1, 2});
  for (int s = 0; s < 3; ++s)
    for (int u = 0; u < owned.n_pages; ++u) {
      owned.score_at(1, s, u) = owned.score_at(0, s, u);
      owned.score_at(2, s, u) = 0;
    }
  DriftSums sums(3);
  sums.add(owned.view());
  const SampleDrift found = sums.finish();
  CHECK(found.layer[1] == Catch::Approx(0).margin(1e-12));
  CHECK(std::isnan(found.layer[2]));
  CHECK(found.step.array().isNaN().all());
}

}  // namespace
}  // namespace deltacal::calib
