#include "calib/baselines/kascade.h"

#include <cmath>
#include <limits>

#include "core/error.h"

namespace deltacal::calib::baselines {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double never = -std::numeric_limits<double>::infinity();

// [from, end] sum of the similarities to layer `from` of the layers from + 1 .. end - 1; `never` with an
// unknown one.
Eigen::MatrixXd segment_sums(const Eigen::MatrixXd& similarity) {
  const Eigen::Index n = similarity.rows();
  Eigen::MatrixXd sums = Eigen::MatrixXd::Constant(n + 1, n + 1, never);
  for (Eigen::Index from = 0; from < n; ++from) {
    double sum = 0;
    for (Eigen::Index end = from + 1; end <= n; ++end) {
      sums(from, end) = sum;
      if (end < n) sum += std::isnan(similarity(end, from)) ? never : similarity(end, from);
    }
  }
  return sums;
}

}  // namespace

std::vector<double> mean_oracle(std::span<const SampleRecall> samples, int n_k) {
  if (samples.empty()) throw bad_input("no sample to take the oracle recall of");
  const std::size_t n = static_cast<std::size_t>(n_k) * samples[0].n_layers;
  std::vector<double> sum(n), count(n);
  for (const auto& sample : samples) {
    if (sample.oracle.size() != n)
      throw bad_input("sample {}: oracle recall of {} entries, expected {}", sample.id, sample.oracle.size(),
                      n);
    for (std::size_t i = 0; i < n; ++i) {
      if (std::isnan(sample.oracle[i])) continue;
      sum[i] += sample.oracle[i];
      count[i] += 1;
    }
  }
  for (std::size_t i = 0; i < n; ++i) sum[i] /= count[i];  // 0 / 0 is NaN: unknown
  return sum;
}

Eigen::MatrixXd kascade_similarity(const EdgeCosts& edges, std::span<const double> oracle, int k_index,
                                   int l_index) {
  const int n = edges.n_layers;
  if (oracle.size() != edges.k_pages.size() * static_cast<std::size_t>(n))
    throw bad_input("kascade: oracle recall of {} entries, expected {} values of K x {} layers",
                    oracle.size(), edges.k_pages.size(), n);
  Eigen::MatrixXd similarity = Eigen::MatrixXd::Constant(n, n, nan);
  for (int target = 0; target < n; ++target) {
    const double best = oracle[static_cast<std::size_t>(k_index) * n + target];
    for (int source = 0; source <= target; ++source)
      if (best > 0)
        similarity(target, source) = edges.recall_mean[edges.at(target, source, k_index, l_index)] / best;
  }
  return similarity;
}

// best(j, end): the largest sum over the layers below `end` with j anchors, the last of them before `end`.
std::vector<int> kascade_layers(const Eigen::MatrixXd& similarity, int full_layers, int m) {
  const int n = static_cast<int>(similarity.rows());
  if (full_layers < 0 || m < 1 || m > n - full_layers)
    throw bad_input("{} delta layers after {} full ones do not fit into {} layers", m, full_layers, n);
  const Eigen::MatrixXd sums = segment_sums(similarity);
  Eigen::MatrixXd best = Eigen::MatrixXd::Constant(m + 1, n + 1, never);
  Eigen::MatrixXi last = Eigen::MatrixXi::Constant(m + 1, n + 1, -1);
  for (int end = full_layers + 1; end <= n; ++end) {
    best(1, end) = sums(full_layers, end);
    last(1, end) = full_layers;
    for (int j = 2; j <= m; ++j)
      for (int anchor = full_layers + 1; anchor < end; ++anchor)
        if (const double sum = best(j - 1, anchor) + sums(anchor, end); sum > best(j, end)) {
          best(j, end) = sum;
          last(j, end) = anchor;
        }
  }
  if (best(m, n) == never) return {};
  std::vector<int> layers(m);
  for (int j = m, end = n; j >= 1; --j) layers[j - 1] = end = last(j, end);
  return layers;
}

std::optional<BaselineSchedule> kascade(const EdgeCosts& edges, std::span<const double> oracle,
                                        const StepCosts& costs, long long budget,
                                        const BaselineOptions& options) {
  std::optional<BaselineSchedule> best;
  for (int m = 1; m < edges.n_layers - options.full_layers; ++m) {
    const int n_full = options.full_layers + m;
    const int pages =
        largest_k(costs, edges.n_layers - n_full, budget - n_full * costs.full(), options.l_pages);
    const int k = edges.k_floor(pages);
    const int l = k < 0 ? -1 : edges.l_floor(std::min(options.l_pages, edges.k_pages[k]));
    if (l < 0) continue;  // too little for the least K that was measured
    const auto deltas = kascade_layers(kascade_similarity(edges, oracle, k, l), options.full_layers, m);
    if (deltas.empty()) continue;
    auto found = with_largest_k(edges, costs, budget, deltas, options);
    if (found && (!best || better(*found, *best))) best = std::move(found);
  }
  return best;
}

}  // namespace deltacal::calib::baselines
