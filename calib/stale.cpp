#include "calib/stale.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

#include "calib/page_order.h"

namespace deltacal::calib {
namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN();

float mean(double sum, int n) {
  return n > 0 ? static_cast<float>(sum / n) : nan;
}

}  // namespace

StaleSums::StaleSums(const Grid& grid, int n_layers) : grid_(grid), pairs_(grid.pairs()), layers_(n_layers) {
  Past empty;
  empty.ranked.resize(grid.l_pages.size());
  for (Layer& layer : layers_) {
    layer.past.assign(stale_lags.back() + 1, empty);
    layer.recall.assign(stale_lags.size() * pairs_.size(), 0);
    layer.n_recall.assign(layer.recall.size(), 0);
    layer.window.assign(pairs_.size(), 0);
    layer.n_window.assign(pairs_.size(), 0);
  }
}

void StaleSums::add(const StepMaps& maps) {
#pragma omp parallel for schedule(dynamic)
  for (int l = 0; l < static_cast<int>(layers_.size()); ++l) add_layer(maps, l);
}

void StaleSums::add_layer(const StepMaps& maps, int layer) {
  Layer& sums = layers_[layer];
  const int n_past = static_cast<int>(sums.past.size());
  PageOrder order;
  for (int s = 0; s < maps.n_steps; ++s) {
    const int t = maps.steps[s];
    Past& now = sums.past[t % n_past];
    now.position = t;
    now.burst = maps.burst[s];
    now.n_pages = maps.seen(s);
    order.rank(maps.score_of(layer, s), grid_.k_pages.back());
    for (std::size_t l = 0; l < grid_.l_pages.size(); ++l) {
      const int l_pages = grid_.l_pages[l];
      if (l_pages > grid_.k_pages.back()) continue;
      std::vector<int32_t>& ranked = now.ranked[l];
      order.list(grid_.k_pages.back(), l_pages, ranked);
      ranked.erase(ranked.begin(), ranked.begin() + std::min(l_pages, now.n_pages));
    }
    for (std::size_t l = 0; l < grid_.l_pages.size(); ++l) {
      const double window = add_window(sums, maps.mass_of(layer, s), grid_.l_pages[l]);
      for (std::size_t lag = 0; lag < stale_lags.size() && stale_lags[lag] <= t; ++lag) {
        const Past& past = sums.past[(t - stale_lags[lag]) % n_past];
        if (past.position == t - stale_lags[lag] && past.burst == maps.burst[s])
          add_lag(sums, maps.mass_of(layer, s), window, past, static_cast<int>(l), static_cast<int>(lag));
      }
    }
  }
}

double StaleSums::add_window(Layer& sums, std::span<const float> mass, int l_pages) const {
  const int seen = static_cast<int>(mass.size());
  double window = 0;
  for (int u = seen - 1; u >= std::max(seen - l_pages, 0); --u) window += mass[u];
  for (std::size_t p = 0; p < pairs_.size(); ++p)
    if (pairs_[p].l_pages == l_pages && seen > pairs_[p].k_pages) {
      sums.window[p] += window;
      ++sums.n_window[p];
    }
  return window;
}

void StaleSums::add_lag(Layer& sums, std::span<const float> mass, double window, const Past& past, int l,
                        int lag) const {
  double kept = window;  // no page counts twice: the ranked ones lie before the older window
  int i = 0;
  for (std::size_t p = 0; p < pairs_.size(); ++p) {  // those of this L come in ascending K
    if (pairs_[p].l_pages != grid_.l_pages[l]) continue;
    if (past.n_pages <= pairs_[p].k_pages) return;
    for (; i < pairs_[p].k_pages - pairs_[p].l_pages; ++i) kept += mass[past.ranked[l][i]];
    sums.recall[lag * pairs_.size() + p] += kept;
    ++sums.n_recall[lag * pairs_.size() + p];
  }
}

SampleStale StaleSums::finish() const {
  SampleStale out{static_cast<int>(layers_.size()), {}, {}};
  for (std::size_t i = 0; i < stale_lags.size() * pairs_.size(); ++i)
    for (const Layer& layer : layers_) out.recall.push_back(mean(layer.recall[i], layer.n_recall[i]));
  for (std::size_t p = 0; p < pairs_.size(); ++p)
    for (const Layer& layer : layers_) out.window.push_back(mean(layer.window[p], layer.n_window[p]));
  return out;
}

HalfLife half_life(std::span<const double> recall, double window) {
  assert(recall.size() == stale_lags.size());
  constexpr double least_difference = 0.01;  // below it a halving is noise
  if (!(recall[0] - window >= least_difference)) return {};
  const double middle = (recall[0] + window) / 2;
  int largest = 0;
  for (std::size_t d = 0; d < recall.size(); ++d) {
    if (std::isnan(recall[d])) continue;
    if (recall[d] <= middle) return {stale_lags[d], {}};
    largest = stale_lags[d];
  }
  return {{}, largest};
}

}  // namespace deltacal::calib
