#include "record/steps.h"

#include <catch2/catch_test_macros.hpp>
#include <set>

#include "support/scratch.h"

using namespace deltacal;
using record::choose_steps;
using record::parse_steps;

TEST_CASE("steps: 256 are four bursts of 64, spread evenly") {
  const auto r = choose_steps(parse_steps("256"), 100, 2048, "s");
  REQUIRE(r.steps.size() == 256);
  CHECK(std::set<int>(r.burst.begin(), r.burst.end()) == std::set<int>{0, 1, 2, 3});
  for (size_t i = 1; i < 256; ++i) {
    CHECK(r.steps[i] > r.steps[i - 1]);
    CHECK((r.burst[i] == r.burst[i - 1]) == (r.steps[i] == r.steps[i - 1] + 1));
  }
  CHECK(r.burst[63] == 0);
  CHECK(r.burst[64] == 1);
  for (int b = 0; b < 4; ++b) {  // in the middle of its quarter of the 1,948 steps
    const double middle = r.steps[b * 64] + 31.5;
    CHECK(std::abs(middle - (100 + 487 * (b + 0.5))) <= 1);
  }
}

TEST_CASE("steps: fewer than asked are all recorded, prompts never") {
  const auto r = choose_steps(parse_steps("256"), 10, 110, "s");
  CHECK(r.steps.front() == 10);
  CHECK(r.steps.back() == 109);
  CHECK(r.burst.back() == 0);
  CHECK(choose_steps(parse_steps("all"), 0, 5, "s").steps == std::vector<int32_t>{0, 1, 2, 3, 4});
}

TEST_CASE("steps: a range is cut at the sample's steps, an empty one is an error") {
  CHECK(choose_steps(parse_steps("0:4"), 2, 100, "s").steps == std::vector<int32_t>{2, 3});
  CHECK(choose_steps(parse_steps("98:200"), 2, 100, "s").steps == std::vector<int32_t>{98, 99});
  CHECK(test::error_of([] { choose_steps(parse_steps("100:200"), 2, 100, "trace-7"); }).find("trace-7") != std::string::npos);
}

TEST_CASE("steps: odd numbers keep their sum") {
  for (const int n : {1, 63, 65, 100, 200, 300}) {
    const auto r = choose_steps(parse_steps(std::to_string(n)), 0, 4096, "s");
    CHECK(r.steps.size() == size_t(n));
  }
}

TEST_CASE("steps: what is no choice of steps is refused") {
  for (const char* bad : {"", "0", "-5", "1.5", "5:5", "7:3", "a:b", "all ", "-1:4", "3:"})
    CHECK(test::error_of([&] { parse_steps(bad); }).starts_with("2: --steps"));
}
