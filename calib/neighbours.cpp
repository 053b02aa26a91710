#include "calib/neighbours.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace deltacal::calib {
namespace {

using config::Role;

std::vector<int> layers_with(const config::Schedule& schedule, Role role) {
  std::vector<int> layers;
  for (int layer = 0; layer < static_cast<int>(schedule.layers.size()); ++layer)
    if (schedule.layers[layer].role == role) layers.push_back(layer);
  return layers;
}

// Keeps what is new and within the budget.
class Collection {
 public:
  Collection(const config::Schedule& from, const NeighbourRules& rules) : from_(from), rules_(rules) {}
  void add(std::string change, std::optional<config::Schedule> schedule) {
    if (!schedule || *schedule == from_ || rules_.attended(*schedule) > rules_.budget) return;
    if (std::ranges::any_of(found_, [&](const auto& other) { return other.schedule == *schedule; })) return;
    found_.push_back({std::move(change), std::move(*schedule)});
  }
  std::vector<Neighbour> take() { return std::move(found_); }

 private:
  const config::Schedule& from_;
  const NeighbourRules& rules_;
  std::vector<Neighbour> found_;
};

void add_other_deltas(const config::Schedule& from, const NeighbourRules& rules, Collection& found) {
  const auto deltas = layers_with(from, Role::delta);
  const int n_layers = static_cast<int>(from.layers.size());
  const auto free = [&](int layer) {
    return layer >= rules.full_layers && layer < n_layers - 1 && !std::ranges::binary_search(deltas, layer);
  };
  const auto solved = [&](std::vector<int> set) {
    std::ranges::sort(set);
    auto schedule = rules.solve_for(set);
    if (schedule) schedule->page_score = from.page_score;
    return schedule;
  };
  for (std::size_t i = 0; i < deltas.size(); ++i)
    for (const int step : {-2, -1, 1, 2}) {
      auto moved = deltas;
      moved[i] += step;
      if (free(moved[i])) found.add(fmt::format("delta {} to {}", deltas[i], moved[i]), solved(moved));
    }
  for (int layer = 0; layer < n_layers; ++layer) {
    auto more = deltas;
    more.push_back(layer);
    if (free(layer)) found.add(fmt::format("delta {} more", layer), solved(more));
  }
  for (const int layer : deltas) {
    auto fewer = deltas;
    std::erase(fewer, layer);
    if (!fewer.empty()) found.add(fmt::format("delta {} less", layer), solved(fewer));
  }
}

void add_other_pages(const config::Schedule& from, const NeighbourRules& rules, Collection& found) {
  const auto& grid = rules.k_pages;
  for (const int down : layers_with(from, Role::sparse)) {
    const int k_down = from.layers[down].k_pages;
    const auto lower = std::ranges::lower_bound(grid, k_down);
    if (lower == grid.begin()) continue;
    const int less = *(lower - 1);
    if (less < from.layers[config::source_of(from, down)].l_pages) continue;
    for (const int up : layers_with(from, Role::sparse)) {
      const int k_up = from.layers[up].k_pages;
      const auto higher = std::ranges::upper_bound(grid, k_up);
      if (up == down || higher == grid.end()) continue;
      found.add(fmt::format("k {} to {} at {}, {} to {} at {}", k_down, less, down, k_up, *higher, up),
                with_k(with_k(from, down, less), up, *higher));
    }
  }
}

}  // namespace

config::Schedule with_k(config::Schedule schedule, int layer, int k_pages) {
  schedule.layers[layer].k_pages = k_pages;
  const int source = config::source_of(schedule, layer);
  auto& list = schedule.layers[source];
  list.k_pages = list.l_pages;
  for (std::size_t i = source + 1; i < schedule.layers.size() && schedule.layers[i].role != Role::delta; ++i)
    list.k_pages = std::max(list.k_pages, schedule.layers[i].k_pages);  // 0 for a full layer
  return schedule;
}

std::vector<Neighbour> neighbours_of(const config::Schedule& schedule, const NeighbourRules& rules) {
  Collection found(schedule, rules);
  if (rules.solve_for) add_other_deltas(schedule, rules, found);
  add_other_pages(schedule, rules, found);
  return found.take();
}

// Edges that the set rules out are unknown to the solver, which never uses such an edge.
std::optional<config::Schedule> solve_with_deltas(const EdgeCosts& edges, const LayerCosts& costs,
                                                  long long budget, std::span<const int> deltas,
                                                  schedule::Options options) {
  EdgeCosts allowed = edges;
  const auto chosen = [&](int layer) { return std::ranges::find(deltas, layer) != deltas.end(); };
  const std::size_t n_pairs = edges.k_pages.size() * edges.l_pages.size();
  for (int target = 0; target < edges.n_layers; ++target)
    for (int source = 0; source <= target; ++source)
      if (chosen(target) || !chosen(source))
        std::fill_n(allowed.loss.begin() + static_cast<std::ptrdiff_t>(edges.at(target, source, 0, 0)),
                    n_pairs, std::numeric_limits<double>::quiet_NaN());
  options.candidates = 1;
  auto found = schedule::k_best(allowed, costs, budget, options);
  if (found.empty()) return std::nullopt;
  return std::move(found[0].schedule);
}

}  // namespace deltacal::calib
