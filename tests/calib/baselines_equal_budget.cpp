// The baselines: which layers they name, and that none is given less than its budget.
#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <set>

#include "calib/baselines.h"
#include "core/error.h"
#include "schedule_support.h"

using namespace deltacal;
using namespace deltacal::calib;
using namespace deltacal::calib::test;
using config::Role;

namespace {

const std::vector<config::StepRange> ranges{{60, 700}, {33, 1024}, {0, 517}};

// Positions attended by one step of a layer with k pages, from the page arithmetic alone (k 0: all).
long long brute_positions(int k, int t) {
  const int pages = t / 16 + 1;
  if (k == 0 || k >= pages) return t + 1;
  long long sum = 0;  // the newest page and k - 1 full ones
  for (int i = 0; i < k; ++i) sum += i == 0 ? t % 16 + 1 : 16;
  return sum;
}

long long brute_positions(const std::vector<int>& k_of_layer) {
  long long sum = 0;
  for (int k : k_of_layer)
    for (const auto& range : ranges)
      for (int t = range.first; t < range.end; ++t) sum += brute_positions(k, t);
  return sum;
}

std::vector<int> k_of(const config::Schedule& schedule) {
  std::vector<int> k;
  for (const auto& plan : schedule.layers) k.push_back(plan.role == Role::sparse ? plan.k_pages : 0);
  return k;
}

}  // namespace

TEST_CASE("baselines: cosine peaks are the highest local maxima of drift, after a first Δ-layer") {
  //                                0    1    2    3    4    5    6    7    8    9
  const std::vector<double> drift{NAN, 0.9, 0.5, 0.1, 0.4, 0.2, 0.6, 0.6, 0.1, 0.3};
  CHECK(cosine_peaks(drift, 2, 1) == std::vector{2});
  CHECK(cosine_peaks(drift, 2, 2) == std::vector{2, 6});  // the left end of the plateau
  CHECK(cosine_peaks(drift, 2, 3) == std::vector{2, 4, 6});
  CHECK(cosine_peaks(drift, 2, 4) == std::vector{2, 4, 6});  // not the last layer
  CHECK(cosine_peaks(drift, 2, 8) == std::vector{2, 4, 6});  // there are no more
  CHECK(cosine_peaks(std::vector<double>{NAN, NAN, NAN, 0.1, NAN}, 1, 3) == std::vector{1, 3});
  CHECK_THROWS_AS(cosine_peaks(drift, 2, 9), Error);
  CHECK_THROWS_AS(cosine_peaks(drift, 2, 0), Error);
}

TEST_CASE("baselines: uniform layers are evenly spaced and distinct") {
  CHECK(uniform_layers(30, 2, 4) == std::vector{2, 9, 16, 23});
  CHECK(uniform_layers(12, 2, 3) == std::vector{2, 5, 8});
  for (int m = 1; m <= 28; ++m) {
    const auto layers = uniform_layers(30, 2, m);
    CHECK(layers.size() == static_cast<size_t>(m));
    CHECK(layers[0] == 2);
    CHECK(std::set<int>(layers.begin(), layers.end()).size() == layers.size());
    for (size_t i = 2; i < layers.size(); ++i)  // gaps differ by at most one
      CHECK(std::abs((layers[i] - layers[i - 1]) - (layers[i - 1] - layers[i - 2])) <= 1);
  }
}

TEST_CASE("baselines: random layers follow the seed, begin with the first Δ-layer and grow") {
  CHECK(random_layers(30, 2, 7, 5) == random_layers(30, 2, 7, 5));
  std::set<std::vector<int>> different;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    different.insert(random_layers(30, 2, 5, seed));
    for (int m = 1; m <= 28; ++m) {
      const auto layers = random_layers(30, 2, m, seed);
      CHECK(layers.front() == 2);
      CHECK(layers.back() < 30);
      CHECK(std::set<int>(layers.begin(), layers.end()).size() == static_cast<size_t>(m));
      if (m < 28) {
        const auto more = random_layers(30, 2, m + 1, seed);
        CHECK(std::includes(more.begin(), more.end(), layers.begin(), layers.end()));
      }
    }
  }
  CHECK(different.size() > 15);
}

TEST_CASE("baselines: a Δ-layer without sparse layers is written as full") {
  const auto schedule = with_one_k(8, 1, std::vector{1, 4, 5, 7}, 16, 4);
  const std::vector<Role> roles{Role::full, Role::delta, Role::sparse, Role::sparse,
                                Role::full, Role::delta, Role::sparse, Role::full};
  for (size_t i = 0; i < roles.size(); ++i) CHECK(schedule.layers[i].role == roles[i]);
  CHECK_NOTHROW(config::check(schedule, "test"));
}

TEST_CASE("baselines: K is the largest that meets the budget, and no other number of Δ-layers loses less") {
  const StepCosts costs(ranges);
  const int n_layers = 12;
  const auto edges = random_edges(n_layers, {4, 8, 16, 32}, {1, 4}, Losses::real, 3);
  std::vector<double> drift;
  for (int i = 0; i < n_layers; ++i) drift.push_back(i * 37 % 11);
  const long long all = n_layers * costs.full();
  for (double ratio : {1.2, 1.5, 2.0, 2.4}) {
    const auto budget = static_cast<long long>(all / ratio);
    for (auto method : {Baseline::cosine_peaks, Baseline::uniform, Baseline::random}) {
      const auto found = baseline(method, edges, costs, budget, drift, {.seed = 1});
      CAPTURE(ratio, name_of(method));
      REQUIRE(found);
      CHECK_NOTHROW(config::check(found->schedule, "test"));
      auto k = k_of(found->schedule);
      CHECK(brute_positions(k) == found->attended);
      CHECK(found->attended <= budget);
      for (int& pages : k) pages += pages > 0;
      CHECK(brute_positions(k) > budget);  // one page more is too much
      // Every other m at every K that meets the budget loses no less.
      for (int m = 1; m < n_layers - 2; ++m) {
        const auto deltas = method == Baseline::uniform  ? uniform_layers(n_layers, 2, m)
                            : method == Baseline::random ? random_layers(n_layers, 2, m, 1)
                                                         : cosine_peaks(drift, 2, m);
        for (int pages = 4; pages <= 64; ++pages) {
          const auto other = with_one_k(n_layers, 2, deltas, pages, 4);
          if (schedule::attended_by(costs, other) <= budget)
            CHECK(schedule::loss_of(edges, other) >= found->loss - 1e-9);
        }
      }
    }
  }
  CHECK_FALSE(baseline(Baseline::uniform, edges, costs, 2 * costs.full(), drift, {}));
  CHECK_THROWS_AS(baseline(Baseline::cosine_peaks, edges, costs, all, {}, {}), Error);
}

TEST_CASE("baselines: between grid values the next smaller K and L count") {
  const auto edges = random_edges(5, {4, 16}, {1, 4}, Losses::uniform, 3);
  const auto loss = [&](int k, int l) {
    return schedule::loss_of(edges, with_one_k(5, 1, std::vector{1}, k, l));
  };
  CHECK(loss(15, 4) == loss(4, 4));
  CHECK(loss(16, 4) != loss(4, 4));
  CHECK(loss(900, 3) == loss(16, 1));
  double sum = 0;
  for (int target : {2, 3, 4}) sum += edges.loss[edges.at(target, 1, 1, 1)];
  CHECK(loss(16, 4) == Catch::Approx(sum));
  CHECK(std::isnan(loss(3, 1)));
}

TEST_CASE("baselines: streaming attends to no fewer positions than the schedule, and to as few as it can") {
  const StepCosts costs(ranges);
  for (int k : {2, 3, 7, 16, 40, 64})
    for (int full_layers : {0, 1, 2}) {
      const auto reference = with_one_k(9, full_layers, std::vector{full_layers, full_layers + 3}, k, 2);
      const auto streaming = streaming_pages(costs, reference);
      const long long wanted = brute_positions(k_of(reference));
      const auto [low, high] =
          std::minmax_element(streaming.pages.begin() + full_layers, streaming.pages.end());
      CAPTURE(k, full_layers, *low, *high);
      for (int layer = 0; layer < full_layers; ++layer) CHECK(streaming.pages[layer] == 0);
      CHECK(*high - *low <= 1);
      CHECK(*low >= 2);
      CHECK(brute_positions(streaming.pages) == streaming.attended);
      CHECK(streaming.attended >= wanted);
      CHECK(streaming.excess == Catch::Approx(double(streaming.attended) / double(wanted) - 1).margin(1e-12));
      // One page less in the last layer with the larger count is too little.
      auto fewer = streaming.pages;
      const auto last = std::find(fewer.rbegin(), fewer.rend(), *high);
      --*last;
      CHECK(brute_positions(fewer) < wanted);
    }
}

TEST_CASE("baselines: streaming of a schedule of single pages, and of full attention") {
  const std::vector<config::StepRange> long_range{{0, 16000}};
  const StepCosts costs(long_range);
  const auto streaming = streaming_pages(costs, with_one_k(9, 0, std::vector{0}, 1, 1));
  CHECK(streaming.excess < 0.01);  // the Δ-layer pays for the other pages
  config::Schedule full;
  full.layers.resize(3);
  CHECK(streaming_pages(costs, full).pages == std::vector{0, 0, 0});
  CHECK(streaming_pages(costs, full).excess == 0);
}
