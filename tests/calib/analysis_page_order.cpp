#include <catch2/catch_test_macros.hpp>
#include <limits>

#include "calib/page_order.h"
#include "support_maps.h"

namespace deltacal::calib {
namespace {

std::vector<int32_t> listed(const std::vector<float>& score, int k, int l, int max_pages = 64,
                            double b = default_position_bias) {
  PageOrder order(b);
  order.rank(score, max_pages);
  std::vector<int32_t> pages;
  order.list(k, l, pages);
  return pages;
}

constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

TEST_CASE("page order: the newest pages lead, newest first, the others follow by score") {
  CHECK(listed({0.1f, 0.4f, 0.2f, 0.3f, 0.0f}, 4, 2) == std::vector<int32_t>{4, 3, 1, 2});
  CHECK(listed({0.1f, 0.4f, 0.2f, 0.3f, 0.0f}, 4, 1) == std::vector<int32_t>{4, 1, 3, 2});
}

TEST_CASE("page order: with equal scores the bias prefers the lower page, and so does no bias at all") {
  const std::vector<float> equal(6, 0.5f);
  CHECK(listed(equal, 4, 1) == std::vector<int32_t>{5, 0, 1, 2});
  CHECK(listed(equal, 4, 1, 64, 0.0) == std::vector<int32_t>{5, 0, 1, 2});
}

TEST_CASE("page order: the bias is subtracted in double, where single precision would not see it") {
  // 1 - 1e-7 * u rounds to steps of 6e-8 below 1 in f32; page 3 is one such step above page 0.
  std::vector<float> score(8, 0.0f);
  score[0] = 1.0f;
  score[1] = std::nextafter(1.0f, 2.0f);  // + 1.19e-7 - 1e-7 > 0: first
  score[3] = std::nextafter(1.0f, 2.0f);  // + 1.19e-7 - 3e-7 < 0: after page 0
  CHECK(listed(score, 4, 1) == std::vector<int32_t>{7, 1, 0, 3});
}

TEST_CASE("page order: NaN ranks as -inf, among themselves the lower page first") {
  CHECK(listed({nan, 0.1f, nan, -infinity, 0.2f, 0.0f}, 6, 1) == std::vector<int32_t>{5, 4, 1, 0, 2, 3});
}

TEST_CASE("page order: fewer pages than K, than L, a single page") {
  CHECK(listed({0.1f, 0.3f, 0.2f}, 8, 1) == std::vector<int32_t>{2, 1, 0});
  CHECK(listed({0.1f, 0.3f, 0.2f}, 8, 4) == std::vector<int32_t>{2, 1, 0});
  CHECK(listed({nan}, 1, 1) == std::vector<int32_t>{0});
}

TEST_CASE("page order: L = K never looks at the score") {
  CHECK(listed(std::vector<float>(9, nan), 3, 3) == std::vector<int32_t>{8, 7, 6});
}

TEST_CASE("page order: lists equal the definition, and the first k of a list are select(S, k, L)") {
  for (uint32_t seed = 0; seed < 30; ++seed) {
    const test::OwnedMaps maps = test::random_maps(seed, 1, {int32_t(3 + 23 * seed)}, {0});
    const auto score = maps.view().score_of(0, 0);
    for (const int max_pages : {4, 16, 64})
      for (const int k : {1, 2, 4})
        for (const int l : {1, 2, 4}) {
          if (l > k) continue;
          const std::vector<float> row(score.begin(), score.end());
          const auto found = listed(row, k, l, max_pages);
          REQUIRE(found == test::select(score, k, l));
          auto longer = listed(row, max_pages, l, max_pages);
          longer.resize(found.size());
          REQUIRE(longer == found);
        }
  }
}

}  // namespace
}  // namespace deltacal::calib
