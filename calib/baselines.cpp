#include "calib/baselines.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "calib/bootstrap.h"
#include "calib/schedule/schedule.h"
#include "core/error.h"

namespace deltacal::calib {
namespace {

void check_number(int n_layers, int full_layers, int m) {
  if (full_layers < 0 || m < 1 || m > n_layers - full_layers)
    throw bad_input("{} delta layers after {} full ones do not fit into {} layers", m, full_layers, n_layers);
}

bool is_peak(std::span<const double> drift, int layer) {
  const auto at = [&](int l) { return std::isnan(drift[l]) ? -INFINITY : drift[l]; };
  return !std::isnan(drift[layer]) && drift[layer] > at(layer - 1) && drift[layer] >= at(layer + 1);
}

std::vector<int> layers_of(Baseline method, int n_layers, std::span<const double> drift,
                           const BaselineOptions& options, int m) {
  switch (method) {
    case Baseline::cosine_peaks:
      return cosine_peaks(drift, options.full_layers, m);
    case Baseline::uniform:
      return uniform_layers(n_layers, options.full_layers, m);
    case Baseline::random:
      return random_layers(n_layers, options.full_layers, m, options.seed);
  }
  return {};
}

}  // namespace

std::string name_of(Baseline method) {
  return method == Baseline::cosine_peaks ? "cosine-peaks"
         : method == Baseline::uniform    ? "uniform"
                                          : "random";
}

std::vector<int> cosine_peaks(std::span<const double> drift, int full_layers, int m) {
  const int n_layers = static_cast<int>(drift.size());
  check_number(n_layers, full_layers, m);
  std::vector<int> peaks;
  for (int layer = full_layers + 1; layer < n_layers - 1; ++layer)
    if (is_peak(drift, layer)) peaks.push_back(layer);
  std::stable_sort(peaks.begin(), peaks.end(), [&](int a, int b) { return drift[a] > drift[b]; });
  if (static_cast<int>(peaks.size()) > m - 1) peaks.resize(m - 1);
  peaks.push_back(full_layers);
  std::sort(peaks.begin(), peaks.end());
  return peaks;
}

std::vector<int> uniform_layers(int n_layers, int full_layers, int m) {
  check_number(n_layers, full_layers, m);
  std::vector<int> layers;
  for (int i = 0; i < m; ++i) layers.push_back(full_layers + i * (n_layers - full_layers) / m);
  return layers;
}

std::vector<int> random_layers(int n_layers, int full_layers, int m, uint64_t seed) {
  check_number(n_layers, full_layers, m);
  std::vector<int> layers(n_layers - full_layers);
  std::iota(layers.begin(), layers.end(), full_layers);
  SplitMix64 random(seed);
  for (int i = 1; i < m; ++i)
    std::swap(layers[i], layers[i + random.below(static_cast<int>(layers.size()) - i)]);
  layers.resize(m);
  std::sort(layers.begin(), layers.end());
  return layers;
}

config::Schedule with_one_k(int n_layers, int full_layers, std::span<const int> deltas, int k_pages,
                            int l_pages) {
  config::Schedule schedule;
  schedule.layers.resize(n_layers);
  std::vector<bool> is_delta(n_layers + 1);
  for (int layer : deltas) is_delta[layer] = true;
  is_delta[n_layers] = true;  // nothing to serve beyond the last layer
  for (int layer = full_layers; layer < n_layers; ++layer) {
    if (!is_delta[layer])
      schedule.layers[layer] = {config::Role::sparse, k_pages, 0};
    else if (!is_delta[layer + 1])
      schedule.layers[layer] = {config::Role::delta, k_pages, l_pages};
  }
  return schedule;
}

int largest_k(const StepCosts& costs, int n_sparse, long long rest, int least) {
  if (n_sparse * costs.at(least) > rest) return 0;
  int low = least, high = std::max(least, costs.max_pages()) + 1;  // low fits; high is never asked for
  while (high - low > 1) {
    const int middle = low + (high - low) / 2;
    (n_sparse * costs.at(middle) <= rest ? low : high) = middle;
  }
  return low;
}

bool better(const BaselineSchedule& a, const BaselineSchedule& b) {
  if (std::isnan(a.loss) || std::isnan(b.loss)) return !std::isnan(a.loss) && std::isnan(b.loss);
  return a.loss != b.loss ? a.loss < b.loss : a.attended < b.attended;
}

std::optional<BaselineSchedule> with_largest_k(const EdgeCosts& edges, const StepCosts& costs,
                                               long long budget, std::span<const int> deltas,
                                               const BaselineOptions& options, int least_k) {
  const int n_full = options.full_layers + static_cast<int>(deltas.size()),
            n_sparse = edges.n_layers - n_full;
  if (options.l_pages < 1) throw bad_input("L is {}, expected at least 1", options.l_pages);
  if (n_sparse < 1) return std::nullopt;
  const int k =
      largest_k(costs, n_sparse, budget - n_full * costs.full(), std::max(options.l_pages, least_k));
  if (k == 0) return std::nullopt;
  BaselineSchedule found;
  found.schedule = with_one_k(edges.n_layers, options.full_layers, deltas, k, options.l_pages);
  found.loss = schedule::loss_of(edges, found.schedule);
  found.attended = schedule::attended_by(costs, found.schedule);
  return found;
}

std::optional<BaselineSchedule> baseline(Baseline method, const EdgeCosts& edges, const StepCosts& costs,
                                         long long budget, std::span<const double> drift,
                                         const BaselineOptions& options) {
  const int n_layers = edges.n_layers;
  if (method == Baseline::cosine_peaks && drift.size() != static_cast<size_t>(n_layers))
    throw bad_input("layer drift of {} layers for a model of {}", drift.size(), n_layers);
  if (options.l_pages < 1) throw bad_input("L is {}, expected at least 1", options.l_pages);
  std::optional<BaselineSchedule> best;
  for (int m = 1; m < n_layers - options.full_layers; ++m) {
    const auto deltas = layers_of(method, n_layers, drift, options, m);
    if (static_cast<int>(deltas.size()) < m) break;  // no more peaks
    auto found = with_largest_k(edges, costs, budget, deltas, options);
    if (found && (!best || better(*found, *best))) best = std::move(found);
  }
  return best;
}

StreamingPages streaming_pages(const StepCosts& costs, const config::Schedule& reference,
                               std::optional<long long> attended) {
  const int n_layers = static_cast<int>(reference.layers.size());
  int first = 0;
  while (first < n_layers && reference.layers[first].role == config::Role::full) ++first;
  const int n = n_layers - first;
  const long long wanted = attended ? *attended : schedule::attended_by(costs, reference);
  const long long rest = wanted - first * costs.full();
  StreamingPages streaming;
  streaming.pages.assign(n_layers, 0);
  streaming.attended = first * costs.full();
  if (n > 0) {
    const int k = std::max(2, largest_k(costs, n, rest, 1));
    const long long missing = rest - n * costs.at(k), step = costs.at(k + 1) - costs.at(k);
    const int n_larger = missing > 0 ? static_cast<int>((missing + step - 1) / step) : 0;
    for (int i = 0; i < n; ++i) streaming.pages[first + i] = i < n_larger ? k + 1 : k;
    streaming.attended += n * costs.at(k) + n_larger * step;
  }
  streaming.excess = static_cast<double>(streaming.attended - wanted) / static_cast<double>(wanted);
  return streaming;
}

}  // namespace deltacal::calib
