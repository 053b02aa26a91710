#include "calib/learning_curve.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "core/error.h"

namespace deltacal::calib {
namespace {

template <class T>
void shuffle(std::vector<T>& items, SplitMix64& random) {
  for (int i = static_cast<int>(items.size()) - 1; i > 0; --i)
    std::swap(items[i], items[random.below(i + 1)]);
}

// Half the mean square of an edge's changes [S] over the chosen steps.
double half_mean_square(const float* delta, std::span<const std::size_t> chosen) {
  double sum = 0;
  for (const std::size_t step : chosen) sum += double(delta[step]) * double(delta[step]);
  return sum / (2.0 * double(chosen.size()));
}

std::vector<std::size_t> spread(std::size_t n_recorded, std::size_t n) {
  std::vector<std::size_t> chosen;
  for (std::size_t i = 0; i < n; ++i) chosen.push_back((2 * i + 1) * n_recorded / (2 * n));
  return chosen;
}

}  // namespace

std::vector<int> mixed_order(std::span<const std::string> problem_of_sample, uint64_t seed) {
  SplitMix64 random(seed);
  std::map<std::string, std::vector<int>> by_problem;
  for (int i = 0; i < static_cast<int>(problem_of_sample.size()); ++i)
    by_problem[problem_of_sample[i]].push_back(i);
  std::vector<std::vector<int>> problems;
  for (auto& [problem, samples] : by_problem) {
    shuffle(samples, random);
    problems.push_back(std::move(samples));
  }
  shuffle(problems, random);
  std::vector<int> order;
  for (std::size_t round = 0; order.size() < problem_of_sample.size(); ++round)
    for (const auto& samples : problems)
      if (round < samples.size()) order.push_back(samples[round]);
  return order;
}

std::vector<int> doubling_sizes(int first, int n) {
  std::vector<int> sizes;
  for (int size = first; size < n; size *= 2) sizes.push_back(size);
  return sizes;
}

std::vector<SampleKl> predicted_kl_of_steps(const trace::Reader& trace, const Grid& grid, int n_steps) {
  if (n_steps < 1) throw bad_input("{} steps of a sample: at least 1 is needed", n_steps);
  std::vector<SampleKl> out = predicted_kl(trace, grid);
  const auto pairs = grid.pairs();
  for (int sample = 0; sample < trace.n_samples(); ++sample) {
    const std::size_t n_recorded = trace.steps(sample).size();
    if (n_recorded <= static_cast<std::size_t>(n_steps)) continue;
    const auto chosen = spread(n_recorded, static_cast<std::size_t>(n_steps));
    const trace::EdgeSensitivity edges = trace.sensitivity(sample);
    SampleKl& kl = out[sample];
    const int n_budgets = static_cast<int>(edges.budgets.size());
    std::vector<std::size_t> budget;  // [pairs]
    for (const Budget& pair : pairs)
      budget.push_back(static_cast<std::size_t>(std::ranges::find(edges.budgets, pair) - edges.budgets.begin()));
    for (int target = 0; target < kl.n_layers; ++target) {
      const int n_edges = target + 1, first_edge = target * (target + 1) / 2;
      std::vector<double> sums(pairs.size() * static_cast<std::size_t>(n_edges), 0.0);
      for (int gradient = 0; gradient < edges.n_gradients; ++gradient) {
        const auto delta = trace.edge_delta(sample, gradient, 0, n_budgets, first_edge, n_edges);
        for (std::size_t pair = 0; pair < pairs.size(); ++pair)
          for (std::size_t source = 0; source <= static_cast<std::size_t>(target); ++source) {
            const std::size_t row = budget[pair] * static_cast<std::size_t>(n_edges) + source;
            sums[pair * static_cast<std::size_t>(n_edges) + source] +=
                half_mean_square(&delta[row * n_recorded], chosen);
          }
      }
      for (std::size_t pair = 0; pair < pairs.size(); ++pair)
        for (int source = 0; source <= target; ++source)
          kl.kl[kl.at(static_cast<int>(pair), target, source)] = static_cast<float>(
              sums[pair * static_cast<std::size_t>(n_edges) + static_cast<std::size_t>(source)] / edges.n_gradients);
    }
  }
  return out;
}

CurveRow curve_row(const MeasuredPoint& point, std::span<const double> all, const Resampler& resampler) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  CurveRow row;
  row.n_samples = point.n_samples;
  row.n_steps = point.n_steps;
  row.n_draws = static_cast<int>(point.draws.size());
  row.n_unsolved = point.n_unsolved;
  row.least = row.largest = nan;
  if (point.draws.empty()) {
    row.nll_gap.mean = row.kl.mean = row.vs_all.mean = nan;
    return row;
  }
  std::set<std::string> schedules;
  std::vector<double> gap(all.size(), 0.0), kl = gap, difference;
  std::vector<double> means;  // [n_draws] NLL gap
  for (const CurveDraw& draw : point.draws) {
    if (draw.nll_gap.size() != all.size() || draw.kl.size() != all.size())
      throw bad_input("a draw of {} calibration samples has figures of {} and {} samples, expected {}",
                      point.n_samples, draw.nll_gap.size(), draw.kl.size(), all.size());
    schedules.insert(draw.schedule);
    means.push_back(0);
    for (std::size_t s = 0; s < all.size(); ++s) {
      gap[s] += draw.nll_gap[s] / row.n_draws;
      kl[s] += draw.kl[s] / row.n_draws;
      means.back() += draw.nll_gap[s] / double(all.size());
    }
  }
  for (std::size_t s = 0; s < all.size(); ++s) difference.push_back(gap[s] - all[s]);
  row.n_schedules = static_cast<int>(schedules.size());
  row.nll_gap = resampler.estimate(gap);
  row.kl = resampler.estimate(kl);
  row.vs_all = resampler.estimate(difference);
  row.least = *std::ranges::min_element(means);
  row.largest = *std::ranges::max_element(means);
  return row;
}

}  // namespace deltacal::calib
