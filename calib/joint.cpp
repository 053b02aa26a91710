#include "calib/joint.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <map>
#include <numeric>
#include <tuple>

namespace deltacal::calib {
namespace {

// The largest value of the ascending list that is at most `value`; 0 if all are larger.
int floor_of(const std::vector<int>& ascending, int value) {
  const auto above = std::ranges::upper_bound(ascending, value);
  return above == ascending.begin() ? 0 : *(above - 1);
}

// One sparse layer of a schedule: which change of the loss it stands for.
struct Edge {
  int target = 0, source = 0;
  PageBudget budget;
  int number() const { return target * (target + 1) / 2 + source; }
};

}  // namespace

struct JointPredictor::Impl {
  const trace::Reader& trace;
  Grid grid;
  std::vector<std::vector<PageBudget>> budgets;                        // [n_samples] in the order of the file
  std::vector<std::vector<int32_t>> bursts;                            // [n_samples] of [S]
  std::vector<int> n_gradients;                                        // [n_samples]
  std::map<std::tuple<int, int, int, int>, std::vector<float>> known;  // sample, gradient, budget, edge: [S]

  // Edges of the schedule; false where k or L lies below the grid.
  bool edges_of(const config::Schedule& schedule, std::vector<Edge>& edges) const {
    int source = -1;
    for (int layer = 0; layer < static_cast<int>(schedule.layers.size()); ++layer) {
      const auto& plan = schedule.layers[layer];
      if (plan.role == config::Role::delta) source = layer;
      if (plan.role != config::Role::sparse) continue;
      const int k = floor_of(grid.k_pages, plan.k_pages);
      const int l = floor_of(grid.l_pages, std::min(k, schedule.layers[source].l_pages));
      if (k == 0 || l == 0) return false;
      edges.push_back({layer, source, {k, l}});
    }
    return true;
  }

  const std::vector<float>& delta(int sample, int gradient, const Edge& edge) {
    const auto found = std::ranges::find(budgets[sample], edge.budget);
    assert(found != budgets[sample].end());
    const int budget = static_cast<int>(found - budgets[sample].begin());
    auto& values = known[{sample, gradient, budget, edge.number()}];
    if (values.empty()) values = trace.edge_delta(sample, gradient, budget, 1, edge.number(), 1);
    return values;
  }

  // Of one sample and set of labels.
  JointKl predict(int sample, int gradient, const std::vector<Edge>& edges) {
    const std::vector<int32_t>& burst = bursts[sample];
    const size_t n = burst.size();
    std::vector<double> sum(n, 0.0), squares(n, 0.0);
    for (const Edge& edge : edges) {
      const auto& values = delta(sample, gradient, edge);
      for (size_t s = 0; s < n; ++s) sum[s] += values[s], squares[s] += double(values[s]) * double(values[s]);
    }
    JointKl kl;
    for (size_t s = 0; s < n; ++s) kl.additive += squares[s], kl.layers += sum[s] * sum[s];
    int n_windows = 0;
    for (size_t first = 0; first < n;) {
      double window = 0;
      size_t end = first;
      for (; end < n && end < first + joint_steps && burst[end] == burst[first]; ++end) window += sum[end];
      kl.steps += window * window / double(end - first);
      ++n_windows;
      first = end;
    }
    return {kl.additive / (2.0 * double(n)), kl.layers / (2.0 * double(n)), kl.steps / (2.0 * n_windows)};
  }
};

JointPredictor::JointPredictor(const trace::Reader& trace, const Grid& grid)
    : impl_(new Impl{trace, grid, {}, {}, {}, {}}) {
  for (int sample = 0; sample < trace.n_samples(); ++sample) {
    assert(trace.has_sensitivity(sample));
    const trace::EdgeSensitivity edges = trace.sensitivity(sample);
    impl_->budgets.push_back(edges.budgets);
    impl_->n_gradients.push_back(edges.n_gradients);
    impl_->bursts.push_back(trace.burst(sample));
  }
}

JointPredictor::~JointPredictor() = default;

JointKl JointPredictor::predict(const config::Schedule& schedule) {
  std::vector<int> all(impl_->bursts.size());
  std::iota(all.begin(), all.end(), 0);
  return predict(schedule, all);
}

JointKl JointPredictor::predict(const config::Schedule& schedule, std::span<const int> samples) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  std::vector<Edge> edges;
  if (schedule.page_score != PageScore::sum || config::keeps_lists(schedule)) return {nan, nan, nan};
  if (!impl_->edges_of(schedule, edges)) return {nan, nan, nan};
  JointKl mean;
  int n_samples = 0;
  for (const int sample : samples) {
    if (impl_->bursts[sample].empty()) continue;
    ++n_samples;
    const int n = impl_->n_gradients[sample];
    for (int gradient = 0; gradient < n; ++gradient) {
      const JointKl kl = impl_->predict(sample, gradient, edges);
      mean.additive += kl.additive / n, mean.layers += kl.layers / n, mean.steps += kl.steps / n;
    }
  }
  if (n_samples == 0) return {nan, nan, nan};
  return {mean.additive / n_samples, mean.layers / n_samples, mean.steps / n_samples};
}

}  // namespace deltacal::calib
