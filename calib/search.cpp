#include "calib/search.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "calib/schedule/schedule.h"
#include "core/error.h"

namespace deltacal::calib {
namespace {

void check(int n_layers, const GreedyOptions& options) {
  if (options.full_layers < 0 || options.full_layers > n_layers - 2)
    throw bad_input("greedy search: {} full layers of {} leave none to choose from", options.full_layers,
                    n_layers);
  if (options.l_pages < 1) throw bad_input("L is {}, expected at least 1", options.l_pages);
  if (options.delta_layers.empty()) throw bad_input("greedy search: no number of Δ-layers to work to");
  for (const int m : options.delta_layers)
    if (m < 1 || m >= n_layers - options.full_layers)
      throw bad_input("greedy search: {} Δ-layers after {} full ones of {} layers; give 1 to {}", m,
                      options.full_layers, n_layers, n_layers - options.full_layers - 1);
}

std::vector<double> gaps_of(const Evaluate& evaluate, const std::vector<config::Schedule>& schedules) {
  auto gaps = evaluate(schedules);
  if (gaps.size() != schedules.size())
    throw bad_input("greedy search: {} NLL gaps for {} schedules", gaps.size(), schedules.size());
  for (std::size_t i = 0; i < gaps.size(); ++i)
    if (!std::isfinite(gaps[i]))
      throw bad_input("greedy search: the NLL gap of \"{}\" is {}", config::describe(schedules[i]), gaps[i]);
  return gaps;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Takes from `deltas` the layer that is missed least.
GreedyRound round_of(int n_layers, const GreedyOptions& options, int k_pages, const Evaluate& evaluate,
                     std::vector<int>& deltas) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<config::Schedule> schedules;
  for (std::size_t i = 1; i < deltas.size(); ++i) {  // the first serves whatever comes before the second
    auto fewer = deltas;
    fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
    schedules.push_back(with_one_k(n_layers, options.full_layers, fewer, k_pages, options.l_pages));
  }
  const auto gaps = gaps_of(evaluate, schedules);
  const auto best = std::ranges::min_element(gaps) - gaps.begin();
  GreedyRound round{deltas[best + 1], schedules[best], gaps[best], static_cast<int>(gaps.size()),
                    seconds_since(start)};
  deltas.erase(deltas.begin() + best + 1);
  return round;
}

}  // namespace

Greedy greedy_search(int n_layers, const StepCosts& costs, long long budget, const GreedyOptions& options,
                     const Evaluate& evaluate) {
  check(n_layers, options);
  Greedy found;
  for (const int m : options.delta_layers) {
    const int n_full = options.full_layers + m;
    GreedyRun run{m,
                  largest_k(costs, n_layers - n_full, budget - n_full * costs.full(),
                            std::max(options.l_pages, options.least_k)),
                  {}};
    std::vector<int> deltas(n_layers - options.full_layers);
    std::iota(deltas.begin(), deltas.end(), options.full_layers);
    while (run.k_pages > 0 && static_cast<int>(deltas.size()) > m) {
      run.rounds.push_back(round_of(n_layers, options, run.k_pages, evaluate, deltas));
      found.n_evaluated += run.rounds.back().n_evaluated;
      found.seconds += run.rounds.back().seconds;
    }
    if (!run.rounds.empty() && (!found.schedule || run.rounds.back().nll_gap < found.nll_gap)) {
      found.schedule = run.rounds.back().schedule;
      found.nll_gap = run.rounds.back().nll_gap;
    }
    found.runs.push_back(std::move(run));
  }
  if (found.schedule) found.attended = schedule::attended_by(costs, *found.schedule);
  return found;
}

}  // namespace deltacal::calib
