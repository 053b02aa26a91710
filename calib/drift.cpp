#include "calib/drift.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace deltacal::calib {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// 1 - cosine of the first n values of both; NaN where it is undefined.
double cosine_distance(std::span<const float> a, std::span<const float> b, std::size_t n) {
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < n; ++i) {
    ab += static_cast<double>(a[i]) * b[i];
    aa += static_cast<double>(a[i]) * a[i];
    bb += static_cast<double>(b[i]) * b[i];
  }
  const double norms = std::sqrt(aa) * std::sqrt(bb);
  return norms > 0 && std::isfinite(norms) ? 1 - std::clamp(ab / norms, -1.0, 1.0) : nan;
}

}  // namespace

void DriftSums::Mean::add(double value) {
  if (std::isnan(value)) return;
  sum += value;
  ++count;
}

double DriftSums::Mean::value() const {
  return count > 0 ? sum / count : nan;
}

DriftSums::DriftSums(int n_layers) : layer_(n_layers), step_(n_layers), previous_(n_layers) {}

void DriftSums::add(const StepMaps& maps) {
  if (maps.n_steps == 0) return;
  const int n_layers = static_cast<int>(layer_.size());
#pragma omp parallel for schedule(dynamic)
  for (int l = 0; l < n_layers; ++l) {
    for (int s = 0; s < maps.n_steps; ++s) {
      const auto now = maps.score_of(l, s);
      if (l > 0) layer_[l].add(cosine_distance(now, maps.score_of(l - 1, s), now.size()));
      const int position = s > 0 ? maps.steps[s - 1] : previous_position_;
      const int burst = s > 0 ? maps.burst[s - 1] : previous_burst_;
      if (position != maps.steps[s] - 1 || burst != maps.burst[s]) continue;
      const auto before = s > 0 ? maps.score_of(l, s - 1) : std::span<const float>(previous_[l]);
      step_[l].add(cosine_distance(now, before, before.size()));
    }
    const auto last = maps.score_of(l, maps.n_steps - 1);
    previous_[l].assign(last.begin(), last.end());
  }
  previous_position_ = maps.steps.back();
  previous_burst_ = maps.burst.back();
}

SampleDrift DriftSums::finish() const {
  const auto n = static_cast<Eigen::Index>(layer_.size());
  SampleDrift out{Eigen::VectorXd(n), Eigen::VectorXd(n)};
  for (Eigen::Index l = 0; l < n; ++l) {
    out.layer[l] = layer_[l].value();
    out.step[l] = step_[l].value();
  }
  return out;
}

Eigen::VectorXd mean_layer_drift(const trace::Reader& reader) {
  const int n_layers = reader.model().n_layers;
  Eigen::VectorXd sum = Eigen::VectorXd::Zero(n_layers), count = sum;
  for (int sample = 0; sample < reader.n_samples(); ++sample) {
    DriftSums sums(n_layers);
    for_each_block(reader, sample, [&](const StepMaps& maps) { sums.add(maps); });
    const Eigen::VectorXd drift = sums.finish().layer;
    for (int layer = 0; layer < n_layers; ++layer) {
      if (std::isnan(drift[layer])) continue;
      sum[layer] += drift[layer];
      count[layer] += 1;
    }
  }
  return sum.cwiseQuotient(count);  // NaN where nothing is known
}

}  // namespace deltacal::calib
