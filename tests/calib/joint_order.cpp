// Candidates ordered by a prediction that is not a sum over edges.
#include "calib/joint_order.h"

#include <catch2/catch_test_macros.hpp>
#include <limits>
#include <map>

using namespace deltacal;
using namespace deltacal::calib;
using config::Role;

namespace {

// Layer 0 ranks, layers 1.. are sparse with these k; L = 1.
config::Schedule with(const std::vector<int>& k) {
  config::Schedule s;
  s.layers.push_back({Role::delta, *std::ranges::max_element(k), 1});
  for (const int pages : k) s.layers.push_back({Role::sparse, pages, 0});
  return s;
}

std::vector<int> k_of(const config::Schedule& s) {
  std::vector<int> k;
  for (size_t i = 1; i < s.layers.size(); ++i) k.push_back(s.layers[i].k_pages);
  return k;
}

}  // namespace

TEST_CASE("order: least predicted loss first, equal ones as they were, unknown ones last") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::map<std::vector<int>, double> loss{{{1}, nan}, {{2}, 3}, {{3}, 1}, {{4}, 3}, {{5}, 2}};
  std::vector<schedule::Candidate> candidates;
  for (const int k : {1, 2, 3, 4, 5}) candidates.push_back({with({k}), 0, k});
  order_by(candidates, [&](const config::Schedule& s) { return loss.at(k_of(s)); });
  std::vector<int> order;
  for (const auto& c : candidates) {
    order.push_back(k_of(c.schedule)[0]);
    CHECK(c.cost == order.back());
  }
  CHECK(order == std::vector<int>{3, 5, 2, 4, 1});
}

TEST_CASE("order: names and the form they stand for") {
  const JointKl kl{1, 2, 3};
  CHECK(value_of(kl, parse_order("additive")) == 1);
  CHECK(value_of(kl, parse_order("layers")) == 2);
  CHECK(value_of(kl, parse_order("steps")) == 3);
  CHECK_THROWS(parse_order("both"));
}
