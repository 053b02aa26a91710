#include "calib/budget.h"

#include <algorithm>
#include <cassert>
#include <charconv>
#include <cmath>

#include "core/error.h"
#include "core/refresh.h"

namespace deltacal::calib {
namespace {

constexpr const char* forms =
    "attended=3 (attended-token ratio, at least 1), bytes=64M (KV cache read by a step, over all layers; K, "
    "M and "
    "G are powers of 1024) or ms=12.5 (time of a step, by a cost table)";

Error unreadable(std::string_view text) {
  return bad_input("budget \"{}\": expected one of {}", text, forms);
}

// A finite number that is the whole of `digits`.
double number(std::string_view digits, std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size() || !std::isfinite(value))
    throw unreadable(text);
  return value;
}

double bytes_of(std::string_view digits, std::string_view text) {
  const size_t power = digits.empty() ? std::string_view::npos : std::string_view("KMG").find(digits.back());
  if (power == std::string_view::npos) return number(digits, text);
  return number(digits.substr(0, digits.size() - 1), text) * std::pow(1024.0, static_cast<double>(power + 1));
}

double ratio_of(std::string_view digits, std::string_view text) {
  const double value = number(digits, text);
  if (value >= 1) return value;
  const std::string hint = value > 0 ? fmt::format(
                                           "; for a schedule that reads {} of the positions write "
                                           "attended={:.4g}",
                                           value, 1 / value)
                                     : "";
  throw bad_input(
      "budget \"{}\": the attended-token ratio is that of full attention to the schedule, so it is at least "
      "1{}",
      text, hint);
}

}  // namespace

Goal parse_budget(std::string_view text) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) throw unreadable(text);
  const std::string_view name = text.substr(0, equals), digits = text.substr(equals + 1);
  if (name == "attended") return {Goal::Kind::attended, ratio_of(digits, text)};
  if (name != "bytes" && name != "ms") throw unreadable(text);
  const Goal goal = name == "ms" ? Goal{Goal::Kind::ms, number(digits, text)}
                                 : Goal{Goal::Kind::bytes, bytes_of(digits, text)};
  if (!(goal.value > 0 && std::isfinite(goal.value))) throw unreadable(text);
  return goal;
}

Goal min_recall_goal(double target) {
  if (!(target > 0 && target <= 1))
    throw bad_input("--min-recall {}: recall is a share of attention mass, above 0 and at most 1", target);
  return {Goal::Kind::min_recall, target};
}

Goal max_kl_goal(double target) {
  if (!(target >= 0 && std::isfinite(target)))
    throw bad_input("--max-kl {}: predicted KL is in nats a token, at least 0", target);
  return {Goal::Kind::max_kl, target};
}

// From k-1 to k pages, every step that sees at least k pages reads page_size positions more.
StepCosts::StepCosts(std::span<const config::StepRange> sequences)
    : sequences_(sequences.begin(), sequences.end()) {
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
      ++n_steps_;
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

// A step that sees U pages attends to page_size positions more for each page above k.
long long StepCosts::listed(int k_pages, std::span<const long long> lists) const {
  assert(std::ssize(lists) == max_pages() + 1);
  long long sum = at(k_pages);
  for (int u = k_pages + 1; u <= max_pages(); ++u) sum += lists[size_t(u)] * page_size * (u - k_pages);
  return sum;
}

LayerCosts layer_costs(const StepCosts& steps, std::span<const int> k_pages) {
  LayerCosts costs;
  costs.full = costs.delta = steps.full();
  for (int k : k_pages) costs.sparse.push_back(steps.at(k));
  return costs;
}

namespace {

// made_at(sequence, t): the position whose list is in force.
std::vector<long long> listed_by_k(const StepCosts& steps, std::span<const int> k_pages,
                                   const auto& made_at) {
  std::vector<long long> lists(size_t(steps.max_pages()) + 1);
  for (size_t i = 0; i < steps.sequences().size(); ++i)
    for (int t = steps.sequences()[i].first; t < steps.sequences()[i].end; ++t)
      lists[size_t(pages_seen(t))] += made_at(i, t) == t;
  std::vector<long long> listed;
  for (const int k : k_pages) listed.push_back(steps.listed(k, lists));
  return listed;
}

}  // namespace

std::vector<std::vector<long long>> listed_costs(const StepCosts& steps, std::span<const int> k_pages,
                                                 int n_layers, int refresh_interval) {
  const auto made_at = [&](size_t sequence, int t) {
    return list_made_at(t, steps.sequences()[sequence].first, refresh_interval);
  };
  return std::vector(size_t(n_layers), listed_by_k(steps, k_pages, made_at));
}

std::vector<std::vector<long long>> listed_costs(const StepCosts& steps, std::span<const int> k_pages,
                                                 int n_layers,
                                                 std::span<const std::vector<int32_t>> made_at) {
  const auto& sequences = steps.sequences();
  assert(made_at.size() == sequences.size());
  std::vector<std::vector<long long>> listed;
  for (size_t layer = 0; layer < size_t(n_layers); ++layer)
    listed.push_back(listed_by_k(steps, k_pages, [&](size_t i, int t) {
      const auto [first, end] = sequences[i];
      return made_at[i][layer * size_t(end - first) + size_t(t - first)];
    }));
  return listed;
}

long long attended_budget(const LayerCosts& costs, int n_layers, double ratio) {
  assert(ratio >= 1);
  return static_cast<long long>(
      std::floor(static_cast<long double>(costs.full) * n_layers / static_cast<long double>(ratio)));
}

long long bytes_per_position(int n_kv_heads, int head_dim, int element_size) {
  return 2LL * n_kv_heads * head_dim * element_size;
}

long long bytes_budget(const StepCosts& steps, double bytes, long long bytes_per_position) {
  assert(bytes > 0 && bytes_per_position > 0);
  const long double positions = static_cast<long double>(bytes) * steps.n_steps() / bytes_per_position;
  return static_cast<long long>(std::min(std::floor(positions), 0x1p62L));
}

}  // namespace deltacal::calib
