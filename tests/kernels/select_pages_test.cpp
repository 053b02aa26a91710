#include "kernels/select_pages/select_pages.h"

#include <catch2/catch_test_macros.hpp>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/error.h"

namespace deltacal::kernels::select_pages {
namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

std::vector<int32_t> select(const std::vector<float>& score, int k, int l, double bias = 1e-7,
                            void (*kernel)(const Params&) = cpu) {
  const int32_t pages = int32_t(score.size());
  std::vector<int32_t> list(size_t(k), -9);
  kernel({1, k, l, bias, score.data(), pages, &pages, list.data()});
  return list;
}

using List = std::vector<int32_t>;

TEST_CASE("select pages: the newest pages first, then by score") {
  CHECK(select({0.1f, 0.5f, 0.3f, 0.9f, 0.0f, 0.0f}, 4, 2) == List{5, 4, 3, 1});
  CHECK(select({0.1f, 0.5f, 0.3f, 0.9f, 0.0f, 0.0f}, 1, 1) == List{5});
}

TEST_CASE("select pages: entries past the row's pages are -1, and the list is ranked there too") {
  CHECK(select({0.2f, 0.7f, 0.1f}, 6, 1) == List{2, 1, 0, -1, -1, -1});
  CHECK(select({0.2f, 0.7f}, 5, 4) == List{1, 0, -1, -1, -1});
}

TEST_CASE("select pages: equal scores go to the lower page, with and without the position bias") {
  const std::vector<float> equal(40, 0.25f);
  CHECK(select(equal, 6, 2, 0) == List{39, 38, 0, 1, 2, 3});
  CHECK(select(equal, 6, 2, 1e-7) == List{39, 38, 0, 1, 2, 3});
}

TEST_CASE("select pages: the bias is applied in double") {
  // In float 1 - 1e-7 * u is one of few values and page 3's larger score would be lost among them.
  const float above = std::nextafter(1.0f, 2.0f);
  CHECK(select({1.0f, 1.0f, 1.0f, above, 0.0f}, 3, 1, 1e-8) == List{4, 3, 0});
  CHECK(select({1.0f, 1.0f, 1.0f, above, 0.0f}, 3, 1, 1e-6) == List{4, 0, 1});
}

TEST_CASE("select pages: NaN ranks as minus infinity, after every number") {
  CHECK(select({nan, 0.0f, -5.0f, nan, -infinity, 0.1f, 0.0f}, 7, 1) == List{6, 5, 1, 2, 0, 3, 4});
  CHECK(select({nan, nan, nan, nan}, 3, 1) == List{3, 0, 1});
  CHECK(select({0.0f, infinity, 1.0f, 0.0f}, 3, 1) == List{3, 1, 2});
}

TEST_CASE("select pages: K = 1, and L = K never reads the score") {
  for (const int pages : {1, 2, 100}) {
    const int32_t n = pages;
    List list(4, -9);
    cpu({1, 4, 4, 1e-7, nullptr, 0, &n, list.data()});
    for (int i = 0; i < 4; ++i) CHECK(list[size_t(i)] == (i < pages ? pages - 1 - i : -1));
  }
  CHECK(select({nan}, 1, 1) == List{0});
}

TEST_CASE("select pages: the first k pages are the list of k, for every L <= k <= K") {
  std::mt19937 random(1);
  for (const int pages : {3, 17, 60}) {
    std::vector<float> score;
    for (int u = 0; u < pages; ++u) score.push_back(float(random() % 8) / 8);  // many ties
    for (const int l : {1, 4}) {
      const List longest = select(score, 40, l);
      for (int k = l; k <= 40; ++k) {
        CHECK(select(score, k, l) == List(longest.begin(), longest.begin() + k));
      }
    }
  }
}

TEST_CASE("select pages: equals the reference on random rows, ties and NaN included") {
  std::mt19937 random(2);
  const int rows = 300, stride = 700;
  std::vector<float> score(size_t(rows * stride));
  for (float& s : score) {
    const unsigned kind = random() % 20;
    s = kind == 0 ? nan : kind < 5 ? 0.5f : float(random()) / 4e9f;
  }
  List n_pages;
  for (int r = 0; r < rows; ++r) n_pages.push_back(1 + int(random() % stride));
  for (const auto& [k, l] : {std::pair(1, 1), {32, 4}, {64, 1}, {700, 8}, {8, 8}}) {
    List found(size_t(rows * k), -9), expected(size_t(rows * k), -9);
    cpu({rows, k, l, 1e-7, score.data(), stride, n_pages.data(), found.data()});
    reference({rows, k, l, 1e-7, score.data(), stride, n_pages.data(), expected.data()});
    REQUIRE(found == expected);
  }
}

TEST_CASE("select pages: 8192 pages, rising and falling scores") {
  std::vector<float> rising, falling;
  for (int u = 0; u < 8192; ++u) rising.push_back(float(u)), falling.push_back(float(-u));
  for (const auto& score : {rising, falling}) {
    CHECK(select(score, 128, 4) == select(score, 128, 4, 1e-7, reference));
  }
  CHECK(select(rising, 3, 1) == List{8191, 8190, 8189});
  CHECK(select(falling, 3, 1) == List{8191, 0, 1});
}

TEST_CASE("select pages: bad parameters are refused with the field's name") {
  const float score[4] = {};
  int32_t pages = 4, list[8];
  const auto refused = [&](const std::string& field, Params p) {
    try {
      cpu(p);
    } catch (const Error& e) {
      return std::string(e.what()).find(field) != std::string::npos;
    }
    return false;
  };
  CHECK(refused("k_pages", {1, 2, 3, 1e-7, score, 4, &pages, list}));
  CHECK(refused("l_pages", {1, 2, 0, 1e-7, score, 4, &pages, list}));
  CHECK(refused("position_bias", {1, 2, 1, double(nan), score, 4, &pages, list}));
  CHECK(refused("position_bias", {1, 2, 1, -1.0, score, 4, &pages, list}));
  CHECK(refused("score", {1, 2, 1, 1e-7, nullptr, 4, &pages, list}));
  CHECK(refused("score_stride", {1, 2, 1, 1e-7, score, 3, &pages, list}));
  pages = 0;
  CHECK(refused("n_pages[0]", {1, 2, 1, 1e-7, score, 4, &pages, list}));
}

}  // namespace
}  // namespace deltacal::kernels::select_pages
