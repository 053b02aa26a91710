// Calibration and validation share no problem.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <set>

#include "calib/split.h"
#include "core/error.h"

using namespace deltacal;
using namespace deltacal::calib;

namespace {

// Problems of different sizes from two tasks; every sample has its own tokens.
std::vector<SplitSample> data() {
  std::vector<SplitSample> samples;
  for (int problem = 0; problem < 9; ++problem)
    for (int i = 0; i <= problem % 3; ++i)
      samples.push_back({"aime", "aime/" + std::to_string(problem), "a" + std::to_string(samples.size())});
  for (int problem = 0; problem < 10; ++problem)
    samples.push_back({"amc", "amc/" + std::to_string(problem), "b" + std::to_string(problem)});
  return samples;
}

}  // namespace

TEST_CASE("comparison: a split keeps problems together, uses each sample once and balances tasks") {
  const auto samples = data();
  std::set<std::vector<int>> different;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto split = split_by_problem(samples, 0.5, seed);
    std::set<std::string> here, there;
    int aime = 0, amc = 0;
    for (int i : split.calibration) {
      here.insert(samples[i].problem);
      (samples[i].task == "aime" ? aime : amc)++;
    }
    for (int i : split.validation) there.insert(samples[i].problem);
    for (const auto& problem : here) CHECK(there.count(problem) == 0);
    CHECK(here.size() + there.size() == 19);
    std::vector<int> all = split.calibration;
    all.insert(all.end(), split.validation.begin(), split.validation.end());
    std::sort(all.begin(), all.end());
    CHECK(all.size() == samples.size());
    CHECK(std::unique(all.begin(), all.end()) == all.end());
    CHECK(aime == 9);  // of 18
    CHECK(amc == 5);   // of 10
    CHECK(split_by_problem(samples, 0.5, seed).calibration == split.calibration);
    different.insert(split.calibration);
  }
  CHECK(different.size() > 10);
}

TEST_CASE("comparison: the validation share is kept as far as problems allow") {
  const auto samples = data();
  const auto quarter = split_by_problem(samples, 0.25, 1).validation.size();  // of 28
  CHECK((quarter >= 6 && quarter <= 8));
  CHECK(split_by_problem(samples, 0.01, 1).validation.size() >= 1);
  CHECK(split_by_problem(samples, 0.99, 1).calibration.size() >= 1);
  const std::vector<SplitSample> two{{"t", "p", "1"}, {"t", "q", "2"}, {"t", "p", "3"}};
  for (uint64_t seed = 0; seed < 5; ++seed) {
    const auto split = split_by_problem(two, 0.5, seed);
    CHECK(std::min(split.calibration.size(), split.validation.size()) == 1);
  }
}

TEST_CASE("comparison: many tasks of one problem keep the share as well") {
  std::vector<SplitSample> samples;
  for (int i = 0; i < 40; ++i) samples.push_back({"task" + std::to_string(i), "p" + std::to_string(i), std::to_string(i)});
  CHECK(split_by_problem(samples, 0.3, 1).validation.size() == 12);
  CHECK(split_by_problem(samples, 0.5, 1).validation.size() == 20);
}

TEST_CASE("comparison: samples of equal tokens stay on one side whatever their problem is called") {
  std::vector<SplitSample> samples;
  for (int i = 0; i < 12; ++i) samples.push_back({"t", "p" + std::to_string(i), "h" + std::to_string(i / 2)});
  for (uint64_t seed = 0; seed < 5; ++seed) {
    const auto split = split_by_problem(samples, 0.5, seed);
    CHECK(split.calibration.size() == 6);
    for (int i : split.calibration)
      CHECK(std::count(split.calibration.begin(), split.calibration.end(), i ^ 1) == 1);
  }
}

TEST_CASE("comparison: one problem cannot be split") {
  const std::vector<SplitSample> one{{"t", "p", "1"}, {"t", "p", "2"}};
  CHECK_THROWS_AS(split_by_problem(one, 0.5, 0), Error);
  CHECK_THROWS_AS(split_by_problem({}, 0.5, 0), Error);
  CHECK_THROWS_AS(split_by_problem(data(), 0.0, 0), Error);
  CHECK_THROWS_AS(split_by_problem(data(), 1.0, 0), Error);
}

TEST_CASE("comparison: an overlap is found by tokens and by problem, and empty keys match nothing") {
  const std::vector<SplitSample> calibration{{"t", "t/1", "aa"}, {"t", "t/2", "bb"}, {"", "", ""}};
  const std::vector<SplitSample> heldout{
      {"t", "t/3", "cc"}, {"u", "u/1", "aa"}, {"t", "t/2", "dd"}, {"t", "t/1", "aa"}, {"", "", ""}};
  const auto found = overlaps(heldout, calibration);
  REQUIRE(found.size() == 3);
  CHECK((found[0].ours == 1 && found[0].theirs == 0 && found[0].same_tokens && !found[0].same_problem));
  CHECK((found[1].ours == 2 && found[1].theirs == 1 && !found[1].same_tokens && found[1].same_problem));
  CHECK((found[2].ours == 3 && found[2].same_tokens && found[2].same_problem));
  CHECK(overlaps(heldout, {}).empty());
}

TEST_CASE("comparison: any problem of a packed sample is one that must not be on the other side") {
  // Packs of three problems; every fourth one shares its last problem with the next pack.
  std::vector<SplitSample> samples;
  for (int i = 0; i < 12; ++i) {
    const int first = 3 * i, last = i % 4 == 0 ? 3 * (i + 1) : first + 2;
    samples.push_back(
        {"t",
         "packed " + std::to_string(i),
         "h" + std::to_string(i),
         {"t/" + std::to_string(first), "t/" + std::to_string(first + 1), "t/" + std::to_string(last)}});
  }
  for (uint64_t seed = 0; seed < 5; ++seed) {
    const auto split = split_by_problem(samples, 0.5, seed);
    CHECK(split.calibration.size() == 6);
    for (int i : split.calibration)
      if (i % 4 < 2) CHECK(std::count(split.calibration.begin(), split.calibration.end(), i ^ 1) == 1);
  }
  const std::vector<SplitSample> ours{
      {"t", "t/7", "x"}, {"u", "packed", "y", {"u/1", "t/16"}}, {"t", "t/99", "z", {"t/99", ""}}};
  const auto found = overlaps(ours, samples);
  REQUIRE(found.size() == 2);
  CHECK((found[0].ours == 0 && found[0].theirs == 2 && found[0].same_problem && !found[0].same_tokens));
  CHECK((found[1].ours == 1 && found[1].theirs == 5));
  const auto reversed = overlaps(samples, ours);
  CHECK((reversed.size() == 2 && reversed[0].ours == 2 && reversed[1].ours == 5));
}

TEST_CASE("comparison: development samples are taken problem by problem, so that any first few are mixed") {
  std::vector<SplitSample> samples;
  for (const char* problem : {"a", "a", "b", "a", "c", "b", "c"}) samples.push_back({"", problem, ""});
  CHECK(round_robin_by_problem(samples, 100) == std::vector{0, 2, 4, 1, 5, 6, 3});
  CHECK(round_robin_by_problem(samples, 4) == std::vector{0, 2, 4, 1});
  CHECK(round_robin_by_problem({}, 4).empty());
}
