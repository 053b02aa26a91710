#include "calib/budget.h"

#include <algorithm>
#include <cassert>
#include <charconv>
#include <cmath>

#include "core/error.h"
#include "core/pages.h"

namespace deltacal::calib {
namespace {

double number(std::string_view text, std::string_view whole) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
    throw bad_input("budget \"{}\": \"{}\" is not a number; write for instance attended=3", whole, text);
  return value;
}

}  // namespace

Goal parse_budget(std::string_view text) {
  const size_t equals = text.find('=');
  const std::string_view name = text.substr(0, equals);
  if (name == "bytes" || name == "ms")
    throw bad_input("budget \"{}\": {}= is not available in this version; use attended=R", text, name);
  if (name != "attended" || equals == std::string_view::npos)
    throw bad_input("budget \"{}\": expected attended=R with R >= 1, for instance attended=3", text);
  const double value = number(text.substr(equals + 1), text);
  if (value < 1) {
    const std::string hint =
        value > 0 ? fmt::format("; for a schedule that reads {} of the positions write attended={:.4g}",
                                value, 1 / value)
                  : "";
    throw bad_input(
        "budget \"{}\": the attended-token ratio is that of full attention to the schedule, so it is at "
        "least 1{}",
        text, hint);
  }
  return {Goal::Kind::attended, value};
}

Goal min_recall_goal(double target) {
  if (!(target > 0 && target <= 1))
    throw bad_input("--min-recall {}: recall is a share of attention mass, above 0 and at most 1", target);
  return {Goal::Kind::min_recall, target};
}

// From k-1 to k pages, every step that sees at least k pages reads page_size positions more.
StepCosts::StepCosts(std::span<const config::StepRange> sequences) {
  int longest = 0;
  for (const auto& range : sequences) {
    if (range.first < 0 || range.end <= range.first)
      throw bad_input("steps {}..{} of a sequence are no range to take the cost of", range.first, range.end);
    longest = std::max(longest, range.end);
  }
  if (longest == 0) throw bad_input("no steps to take the cost of a schedule on");
  std::vector<long long> seeing(pages_for(longest) + 1);  // [pages] steps that see so many pages
  long long newest = 0;
  for (const auto& range : sequences)
    for (int t = range.first; t < range.end; ++t) {
      ++seeing[pages_seen(t)];
      newest += t % page_size + 1;
    }
  by_pages_.resize(pages_for(longest));
  by_pages_[0] = newest;
  long long at_least = 0;
  for (int k = static_cast<int>(by_pages_.size()); k >= 2; --k) {
    at_least += seeing[k];
    by_pages_[k - 1] = page_size * at_least;
  }
  for (size_t i = 1; i < by_pages_.size(); ++i) by_pages_[i] += by_pages_[i - 1];
}

long long StepCosts::at(int k_pages) const {
  assert(k_pages >= 1);
  return by_pages_[std::min(k_pages, max_pages()) - 1];
}

LayerCosts layer_costs(const StepCosts& steps, std::span<const int> k_pages) {
  LayerCosts costs;
  costs.full = steps.full();
  for (int k : k_pages) costs.sparse.push_back(steps.at(k));
  return costs;
}

long long attended_budget(const LayerCosts& costs, int n_layers, double ratio) {
  assert(ratio >= 1);
  return static_cast<long long>(
      std::floor(static_cast<long double>(costs.full) * n_layers / static_cast<long double>(ratio)));
}

}  // namespace deltacal::calib
