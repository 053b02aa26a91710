#include "config/schedule.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/error.h"
#include "core/refresh.h"

namespace deltacal::config {
namespace {

using Wide = __int128;  // positions of all layers, steps and samples: exact beyond 2^63

// Pages that a layer attends to at most; none: all of them.
constexpr int no_limit = 0;
int limit_of(const LayerPlan& layer) {
  return layer.role == Role::sparse ? layer.k_pages : no_limit;
}

// Positions that one layer attends to at step t, its list made at t0.
long long attended(const Schedule& schedule, int index, int t0, int t) {
  const LayerPlan& layer = schedule.layers[static_cast<size_t>(index)];
  if (layer.role == Role::full || (layer.role == Role::delta && t0 == t)) return t + 1;
  const LayerPlan& list =
      layer.role == Role::delta ? layer : schedule.layers[static_cast<size_t>(source_of(schedule, index))];
  return positions_attended(layer.k_pages, {list.k_pages, list.l_pages}, t0, t);
}

void check_known(const Schedule& schedule) {
  if (schedule.refresh)
    throw bad_input(
        "what a schedule with adaptive refresh attends to shows in a run alone: measure it with validate");
}

// Positions that a layer with a list made at every step attends to over the steps t < end, in closed form: t
// + 1 up to k pages, then k - 1 full pages and the newest as far as it is filled.
Wide attended_before(int k_pages, Wide end) {
  const Wide all = k_pages == no_limit ? end : std::min(end, Wide{k_pages} * page_size);
  const Wide steps = end - all, rest = steps % page_size;
  constexpr Wide filled = page_size * (page_size + 1) / 2;  // 1 + 2 + ... + 16
  return all * (all + 1) / 2 + steps * (Wide{k_pages} - 1) * page_size + steps / page_size * filled +
         rest * (rest + 1) / 2;
}

// "0-1, 4"
std::string ranges_of(const std::vector<int>& numbers) {
  std::vector<std::string> parts;
  for (size_t i = 0; i < numbers.size();) {
    size_t end = i + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    parts.push_back(end == i + 1 ? fmt::format("{}", numbers[i])
                                 : fmt::format("{}-{}", numbers[i], numbers[end - 1]));
    i = end;
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

// "16", "16-64"
std::string span_of(const std::vector<int>& numbers) {
  const auto [low, high] = std::ranges::minmax(numbers);
  return low == high ? fmt::format("{}", low) : fmt::format("{}-{}", low, high);
}

void check_layer(const Schedule& schedule, size_t index, int source, const std::string& where) {
  const LayerPlan& layer = schedule.layers[index];
  const auto at = fmt::format("{}: layers[{}]", where, index);
  switch (layer.role) {
    case Role::full:
      if (layer.k_pages != 0 || layer.l_pages != 0)
        throw bad_input("{}: a full layer attends to all pages and has neither k_pages nor l_pages", at);
      return;
    case Role::delta:
      if (layer.l_pages < 1) throw bad_input("{}.l_pages is {}, expected 1 or more", at, layer.l_pages);
      if (layer.k_pages < layer.l_pages)
        throw bad_input("{}.k_pages is {}, below its l_pages {}: the newest pages are part of the list", at,
                        layer.k_pages, layer.l_pages);
      return;
    case Role::sparse:
      break;
  }
  if (layer.l_pages != 0) throw bad_input("{}.l_pages: it belongs to delta layers alone", at);
  if (source < 0) throw bad_input("{} is sparse, but no delta layer comes before it to choose its pages", at);
  const LayerPlan& list = schedule.layers[static_cast<size_t>(source)];
  if (layer.k_pages < list.l_pages)
    throw bad_input("{}.k_pages is {}, below the l_pages {} of layers[{}], whose list it uses", at,
                    layer.k_pages, list.l_pages, source);
  if (layer.k_pages > list.k_pages)
    throw bad_input("{}.k_pages is {}, but the list of layers[{}] has only {} (its k_pages)", at,
                    layer.k_pages, source, list.k_pages);
}

void check_refresh(const Schedule& schedule, const std::string& where) {
  if (schedule.refresh_interval < 1)
    throw bad_input("{}: refresh_interval is {}, expected 1 or more", where, schedule.refresh_interval);
  if (!schedule.refresh) return;
  const AdaptiveRefresh& adaptive = *schedule.refresh;
  if (schedule.refresh_interval != 1)
    throw bad_input(
        "{}: refresh_interval {} and refresh: lists are made at an interval or by a signal, not both", where,
        schedule.refresh_interval);
  if (!(adaptive.threshold >= -1 && adaptive.threshold <= 1))
    throw bad_input("{}: refresh.threshold is {}, expected a cosine from -1 to 1", where, adaptive.threshold);
  if (adaptive.max_interval < 1)
    throw bad_input("{}: refresh.max_interval is {}, expected 1 or more", where, adaptive.max_interval);
}

}  // namespace

void check(const Schedule& schedule, const std::string& where) {
  if (schedule.layers.empty()) throw bad_input("{}: layers is empty", where);
  if (!std::isfinite(schedule.position_bias) || schedule.position_bias < 0)
    throw bad_input("{}: position_bias is {}, expected 0 or more", where, schedule.position_bias);
  check_refresh(schedule, where);
  int source = -1;
  for (size_t i = 0; i < schedule.layers.size(); ++i) {
    check_layer(schedule, i, source, where);
    if (schedule.layers[i].role == Role::delta) source = static_cast<int>(i);
  }
}

int source_of(const Schedule& schedule, int layer) {
  for (int i = layer - 1; i >= 0; --i)
    if (schedule.layers[static_cast<size_t>(i)].role == Role::delta) return i;
  throw bad_input("layers[{}] has no delta layer before it", layer);
}

std::string describe(const Schedule& schedule) {
  std::map<Role, std::vector<int>> layers;
  std::vector<int> budgets, windows;
  for (size_t i = 0; i < schedule.layers.size(); ++i) {
    const LayerPlan& layer = schedule.layers[i];
    layers[layer.role].push_back(static_cast<int>(i));
    if (layer.role == Role::sparse) budgets.push_back(layer.k_pages);
    if (layer.role == Role::delta) windows.push_back(layer.l_pages);
  }
  std::vector<std::string> texts;
  if (!layers[Role::full].empty()) texts.push_back("full " + ranges_of(layers[Role::full]));
  if (!windows.empty()) texts.push_back("delta " + ranges_of(layers[Role::delta]));
  if (!budgets.empty()) texts.push_back(fmt::format("sparse k {}, L {}", span_of(budgets), span_of(windows)));
  if (schedule.page_score != PageScore::sum) texts.push_back("score " + name_of(schedule.page_score));
  if (schedule.refresh_interval > 1)
    texts.push_back(fmt::format("lists every {} steps", schedule.refresh_interval));
  if (schedule.refresh)
    texts.push_back(fmt::format("lists at query cosine below {}, at least every {} steps",
                                schedule.refresh->threshold, schedule.refresh->max_interval));
  return fmt::format("{}", fmt::join(texts, " · "));
}

bool keeps_lists(const Schedule& schedule) {
  return schedule.refresh_interval > 1 || schedule.refresh;
}

long long attended_positions(const Schedule& schedule, int t, int first_step) {
  check_known(schedule);
  const int t0 = list_made_at(t, first_step, schedule.refresh_interval);
  long long sum = 0;
  for (int layer = 0; layer < static_cast<int>(schedule.layers.size()); ++layer)
    sum += attended(schedule, layer, t0, t);
  return sum;
}

double attended_ratio(const Schedule& schedule, const std::vector<StepRange>& sequences) {
  check_known(schedule);
  std::map<int, int> layers;  // by page limit
  for (const LayerPlan& layer : schedule.layers) ++layers[limit_of(layer)];
  Wide all = 0, kept = 0;
  for (const auto& [first, end] : sequences) {
    if (first < 0 || first > end) throw bad_input("steps {} to {} are no range", first, end);
    for (const auto& [limit, count] : layers) {
      all += count * (attended_before(no_limit, end) - attended_before(no_limit, first));
      if (!keeps_lists(schedule))
        kept += count * (attended_before(limit, end) - attended_before(limit, first));
    }
    if (keeps_lists(schedule))
      for (int t = first; t < end; ++t) kept += attended_positions(schedule, t, first);
  }
  if (kept == 0)
    throw bad_input("an attended-token ratio needs at least one step and one layer, there are none");
  return static_cast<double>(all) / static_cast<double>(kept);
}

}  // namespace deltacal::config
