#include "calib/edges.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

#include "core/error.h"

namespace deltacal::calib {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

int floor_index(const std::vector<int>& ascending, int value) {
  return static_cast<int>(std::upper_bound(ascending.begin(), ascending.end(), value) - ascending.begin()) -
         1;
}

double lost_of(std::span<const SampleRecall> samples, size_t entry, const Aggregate& how) {
  std::vector<double> lost;
  for (const auto& sample : samples)
    if (!std::isnan(sample.mean_lost[entry])) lost.push_back(std::max(0.0f, sample.mean_lost[entry]));
  return aggregate(lost, how);
}

int common_layers(std::span<const SampleRecall> samples) {
  if (samples.empty()) throw bad_input("no sample to calibrate on");
  for (const auto& sample : samples)
    if (sample.n_layers != samples[0].n_layers)
      throw bad_input("sample {} has {} layers, sample {} has {}", sample.id, sample.n_layers, samples[0].id,
                      samples[0].n_layers);
  return samples[0].n_layers;
}

int index_of(const std::vector<int>& values, int value) {
  return static_cast<int>(std::find(values.begin(), values.end(), value) - values.begin());
}

}  // namespace

EdgeCosts::EdgeCosts(int layers, std::vector<int> k, std::vector<int> l)
    : n_layers(layers), k_pages(std::move(k)), l_pages(std::move(l)) {
  const size_t n = static_cast<size_t>(n_layers) * n_layers * k_pages.size() * l_pages.size();
  for (auto* table : {&loss, &recall_mean, &recall_low, &recall_high}) table->assign(n, nan);
}

int EdgeCosts::k_floor(int k) const {
  return floor_index(k_pages, k);
}
int EdgeCosts::l_floor(int l) const {
  return floor_index(l_pages, l);
}

EdgeCosts recall_costs(const Grid& grid, std::span<const SampleRecall> samples, const Bootstrap& bootstrap,
                       std::span<const double> weights, const Aggregate& how) {
  const int n_layers = common_layers(samples);
  if (!weights.empty() && weights.size() != static_cast<size_t>(n_layers))
    throw bad_input("{} layer weights for {} layers", weights.size(), n_layers);
  EdgeCosts edges(n_layers, grid.k_pages, grid.l_pages);
  std::vector<std::string> problems;
  for (const auto& sample : samples) problems.push_back(sample.problem);
  const Resampler resampler(problems, bootstrap);

  const auto pairs = grid.pairs();
  Eigen::MatrixXd recall(samples.size(), static_cast<Eigen::Index>(n_layers) * n_layers);
  for (int pair = 0; pair < static_cast<int>(pairs.size()); ++pair) {
    for (size_t s = 0; s < samples.size(); ++s)
      for (Eigen::Index e = 0; e < recall.cols(); ++e)
        recall(s, e) = samples[s].mean_active[samples[s].at(pair, 0, 0) + e];
    const Estimates estimates = resampler.estimate(recall);
    const int k = index_of(grid.k_pages, pairs[pair].k_pages),
              l = index_of(grid.l_pages, pairs[pair].l_pages);
    // No recorded step sees more than K pages: what K loses on longer ones is unknown, not 0.
    if (std::none_of(samples.begin(), samples.end(), [k](const auto& s) { return s.n_active[k] > 0; }))
      continue;
    for (int target = 0; target < n_layers; ++target)
      for (int source = 0; source <= target; ++source) {
        const size_t entry = edges.at(target, source, k, l);
        const Eigen::Index e = static_cast<Eigen::Index>(target) * n_layers + source;
        const double weight = weights.empty() ? 1.0 : weights[target];
        edges.loss[entry] = weight * lost_of(samples, samples[0].at(pair, target, source), how);
        edges.recall_mean[entry] = estimates.mean[e];
        edges.recall_low[entry] = estimates.low[e];
        edges.recall_high[entry] = estimates.high[e];
      }
  }
  return edges;
}

EdgeCosts kl_costs(const Grid& grid, std::span<const SampleRecall> recalls, std::span<const SampleKl> samples,
                   const Aggregate& how, const Bootstrap& bootstrap) {
  assert(recalls.size() == samples.size());
  EdgeCosts edges = recall_costs(grid, recalls, bootstrap);
  const auto pairs = grid.pairs();
  std::vector<double> values(samples.size());
  for (int pair = 0; pair < static_cast<int>(pairs.size()); ++pair)
    for (int target = 0; target < edges.n_layers; ++target)
      for (int source = 0; source <= target; ++source) {
        double& loss = edges.loss[edges.at(target, source, index_of(grid.k_pages, pairs[pair].k_pages),
                                           index_of(grid.l_pages, pairs[pair].l_pages))];
        if (std::isnan(loss)) continue;  // unknown to the recall as well: no step sees more than K pages
        for (size_t s = 0; s < samples.size(); ++s)
          values[s] = samples[s].kl[samples[s].at(pair, target, source)];
        loss = aggregate(values, how);
      }
  return edges;
}

std::vector<size_t> entries_of(const EdgeCosts& edges, const config::Schedule& schedule) {
  std::vector<size_t> entries;
  int source = -1;
  for (int layer = 0; layer < static_cast<int>(schedule.layers.size()); ++layer) {
    const auto& plan = schedule.layers[layer];
    if (plan.role == config::Role::delta) source = layer;
    if (plan.role != config::Role::sparse) continue;
    const int k = edges.k_floor(plan.k_pages);
    const int l = k < 0 ? -1 : edges.l_floor(std::min(schedule.layers[source].l_pages, edges.k_pages[k]));
    entries.push_back(l < 0 ? EdgeCosts::none : edges.at(layer, source, k, l));
  }
  return entries;
}

}  // namespace deltacal::calib
