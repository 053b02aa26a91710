#include "calib/joint_order.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/error.h"

namespace deltacal::calib {
namespace {

// Unknown losses after all others.
double key_of(double predicted) {
  return std::isnan(predicted) ? std::numeric_limits<double>::infinity() : predicted;
}

}  // namespace

Order parse_order(std::string_view text) {
  if (text == "additive") return Order::additive;
  if (text == "layers") return Order::layers;
  if (text == "steps") return Order::steps;
  throw bad_input("order {}: unknown; give additive, layers or steps", text);
}

std::string name_of(Order order) {
  return order == Order::additive ? "additive" : order == Order::layers ? "layers" : "steps";
}

double value_of(const JointKl& kl, Order order) {
  return order == Order::additive ? kl.additive : order == Order::layers ? kl.layers : kl.steps;
}

void order_by(std::vector<schedule::Candidate>& candidates, const PredictedLoss& predicted) {
  std::vector<double> keys;
  for (const auto& c : candidates) keys.push_back(key_of(predicted(c.schedule)));
  std::vector<std::size_t> order(candidates.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return keys[i]; });
  std::vector<schedule::Candidate> sorted;
  for (const std::size_t i : order) sorted.push_back(std::move(candidates[i]));
  candidates = std::move(sorted);
}

}  // namespace deltacal::calib
