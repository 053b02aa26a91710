// The order of pages as integers and the closing in on the last page chosen: what select_pages does on a
// device, one step after the other, against its reference.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/select_pages/cuda_order.h"
#include "kernels/select_pages/select_pages.h"

namespace deltacal::kernels::cuda::select_pages {
namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

TEST_CASE("cuda selection: keys order as the doubles they stand for") {
  const float numbers[] = {nan,  -infinity, -3e38f, -1.0f, -1e-45f, -0.0f,
                           0.0f, 1e-45f,    1e-7f,  1.0f,  3e38f,   infinity};
  for (const float a : numbers) {
    for (const float b : numbers) {
      for (const double bias : {0.0, 1e-7, 0.5}) {
        for (const int page : {0, 1, 8191}) {
          const double x = std::isnan(a) ? -double(infinity) : a - bias * 7,
                       y = std::isnan(b) ? -double(infinity) : b - bias * page;
          CHECK((key_of(a, bias, 7) < key_of(b, bias, page)) == (x < y));
          CHECK((key_of(a, bias, 7) == key_of(b, bias, page)) == (x == y));
        }
      }
    }
  }
}

// The rounds of narrow(), by a plain histogram.
template <class In, class Of>
void narrow(Interval& interval, int older, const In& in, const Of& of) {
  std::vector<int> bins(n_bins, 0);
  int held = 0;
  for (int u = 0; u < older; ++u) {
    if (!in(u)) continue;
    const int bin = interval.bin(of(u));
    REQUIRE((bin >= 0 && bin < n_bins));
    ++bins[size_t(bin)], ++held;
  }
  REQUIRE(held == interval.count);
  int more = 0, bin = n_bins - 1;
  while (more + bins[size_t(bin)] < interval.need) more += bins[size_t(bin--)];
  const int width = interval.width;
  interval.narrow(bin, more, bins[size_t(bin)]);
  REQUIRE(interval.width < width);
  REQUIRE((interval.need >= 1 && interval.need <= interval.count));
}

std::vector<int32_t> select(const std::vector<float>& score, int k, int l, double bias, int few) {
  const int pages = int(score.size()), recent = std::min(l, pages), older = pages - recent;
  const int chosen = std::min(k - recent, older), room = std::max(few, k - l);
  std::vector<int32_t> list(size_t(k), -1);
  for (int i = 0; i < recent; ++i) list[size_t(i)] = pages - 1 - i;
  if (chosen <= 0) return list;
  std::vector<uint64_t> key;
  for (int u = 0; u < older; ++u) key.push_back(key_of(score[size_t(u)], bias, u));
  Interval interval = interval_of(*std::min_element(key.begin(), key.end()),
                                  *std::max_element(key.begin(), key.end()), chosen, older);
  const auto at = [&](int u) { return key[size_t(u)]; };
  int rounds = 0;
  for (; interval.width > 0 && interval.above + interval.count > room; ++rounds)
    narrow(
        interval, older, [&](int u) { return interval.holds(at(u)); }, at);
  CHECK(rounds <= 7);
  Interval ties = interval;
  ties.low = tie_key(8191), ties.width = 13;
  const bool many_equal = interval.width == 0 && interval.above + interval.count > room;
  while (many_equal && ties.above + ties.count > room)
    narrow(
        ties, older, [&](int u) { return at(u) == interval.low && ties.holds(tie_key(u)); },
        [](int u) { return tie_key(u); });
  std::vector<Ranked> candidates;
  for (int u = 0; u < older; ++u)
    if (at(u) > interval.low || (at(u) == interval.low && tie_key(u) >= (many_equal ? ties.low : 0)))
      candidates.push_back({at(u), u});
  REQUIRE(int(candidates.size()) <= room);
  REQUIRE(int(candidates.size()) >= chosen);
  for (const Ranked& own : candidates) {
    const auto before = std::count_if(candidates.begin(), candidates.end(),
                                      [&](const Ranked& c) { return ranks_before(c, own); });
    if (before < chosen) list[size_t(recent + before)] = own.page;
  }
  return list;
}

std::vector<int32_t> expected(const std::vector<float>& score, int k, int l, double bias) {
  const int32_t pages = int32_t(score.size());
  std::vector<int32_t> list(size_t(k), -9);
  kernels::select_pages::reference({1, k, l, bias, score.data(), pages, &pages, list.data()});
  return list;
}

TEST_CASE("cuda selection: closing in chooses and ranks what the reference does") {
  std::mt19937 random(3);
  std::vector<std::vector<float>> rows;
  for (const int n : {1, 2, 5, 60, 257, 700, 8192}) {
    rows.emplace_back(size_t(n), 0.25f);  // all equal
    std::vector<float> rising, falling, ties, peaked, wild;
    for (int u = 0; u < n; ++u) {
      rising.push_back(float(u)), falling.push_back(float(-u));
      ties.push_back(random() % 5 == 0 ? nan : float(random() % 4) / 4);
      peaked.push_back(std::exp(-float(random() % 1000) / 50));
      const uint32_t bits = uint32_t(random());
      float any;
      std::memcpy(&any, &bits, sizeof any);
      wild.push_back(any);
    }
    for (auto& row : {rising, falling, ties, peaked, wild}) rows.push_back(row);
  }
  for (const auto& row : rows) {
    for (const auto& [k, l] : {std::pair(1, 1), {8, 8}, {64, 8}, {300, 4}, {512, 1}}) {
      for (const double bias : {0.0, 1e-7, 1e-3}) {
        for (const int few : {1, 256}) REQUIRE(select(row, k, l, bias, few) == expected(row, k, l, bias));
      }
    }
  }
}

}  // namespace
}  // namespace deltacal::kernels::cuda::select_pages
