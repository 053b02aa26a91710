#include "calib/recall.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "calib/page_order.h"
#include "core/error.h"

namespace deltacal::calib {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

void check_axis(const std::vector<int>& values, const char* name) {
  if (values.empty()) throw bad_input("{}: at least one number of pages is needed.", name);
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i] < 1 || (i > 0 && values[i] <= values[i - 1]))
      throw bad_input("{}: {} at place {}: give ascending numbers of at least 1.", name, values[i], i + 1);
}

// Indices into Grid::pairs() of the budgets with one L, in ascending K: those that one list serves.
std::vector<int> pairs_of(const std::vector<Budget>& pairs, int l_pages) {
  std::vector<int> out;
  for (int p = 0; p < std::ssize(pairs); ++p)
    if (pairs[p].l_pages == l_pages) out.push_back(p);
  return out;
}

// Calls found(pair, mass of the first K pages) for the budgets of `served` with K < U, in ascending K.
template <class Found>
void walk(std::span<const float> mass, const std::vector<int32_t>& list, const std::vector<Budget>& pairs,
          const std::vector<int>& served, Found found) {
  double kept = 0;
  int i = 0;
  for (const int pair : served) {
    const int k = pairs[pair].k_pages;
    if (k >= std::ssize(mass)) return;
    for (; i < k; ++i) kept += mass[list[i]];
    found(pair, kept);
  }
}

}  // namespace

std::vector<Budget> Grid::pairs() const {
  std::vector<Budget> out;
  for (const int k : k_pages)
    for (const int l : l_pages)
      if (l <= k) out.push_back({k, l});
  return out;
}

void check(const Grid& grid) {
  check_axis(grid.k_pages, "--k-pages");
  check_axis(grid.l_pages, "--l-pages");
  if (grid.pairs().empty())
    throw bad_input(
        "--k-pages and --l-pages: every L is above every K; K includes the L newest pages, so L <= K.");
}

// ---- histogram ----

RecallHistogram::RecallHistogram(int n_pairs, int n_layers)
    : n_edges_(n_layers * (n_layers + 1) / 2),
      counts_(static_cast<std::size_t>(n_pairs) * n_edges_ * n_bins, 0) {}

std::size_t RecallHistogram::first_bin(int pair, int target, int source) const {
  const int edge = target * (target + 1) / 2 + source;
  return (static_cast<std::size_t>(pair) * n_edges_ + edge) * n_bins;
}

void RecallHistogram::add(int pair, int target, int source, double recall) {
  if (std::isnan(recall)) return;
  const int bin = static_cast<int>(std::clamp(recall, 0.0, 1.0) * n_bins);
  ++counts_[first_bin(pair, target, source) + std::min(bin, n_bins - 1)];
}

double RecallHistogram::quantile(int pair, int target, int source, double q) const {
  const uint32_t* counts = counts_.data() + first_bin(pair, target, source);
  double total = 0;
  for (int bin = 0; bin < n_bins; ++bin) total += counts[bin];
  if (total == 0) return nan;
  const double place = q * (total - 1);  // 0-based, among the sorted values
  double before = 0;
  int bin = 0;
  while (before + counts[bin] <= place) before += counts[bin++];
  return (bin + (place - before + 0.5) / counts[bin]) / n_bins;  // evenly spread within the bin
}

// ---- one sample ----

RecallSums::RecallSums(const Grid& grid, int n_layers)
    : grid_(grid), pairs_(grid.pairs()), n_layers_(n_layers), n_active_(grid.k_pages.size(), 0) {
  const std::size_t cells = pairs_.size() * n_layers * n_layers;
  sum_.assign(cells, 0);
  lost_.assign(cells, 0);
  least_.assign(cells, infinity);
  oracle_.assign(grid.k_pages.size() * n_layers, 0);
}

void RecallSums::add(const StepMaps& maps, RecallHistogram* histogram) {
  if (n_steps_ == 0 && maps.n_kv_heads > 0) {
    n_kv_heads_ = maps.n_kv_heads;
    group_.assign(sum_.size() * n_kv_heads_, 0);
  }
  n_steps_ += maps.n_steps;
  for (std::size_t k = 0; k < grid_.k_pages.size(); ++k)
    for (int s = 0; s < maps.n_steps; ++s) n_active_[k] += maps.seen(s) > grid_.k_pages[k];
      // One source layer a thread: no sum is shared, and the result does not depend on the number of threads.
#pragma omp parallel for schedule(dynamic)
  for (int layer = 0; layer < n_layers_; ++layer) {
    add_source(maps, layer, histogram);
    add_oracle(maps, layer);
  }
}

void RecallSums::add_source(const StepMaps& maps, int source, RecallHistogram* histogram) {
  const std::size_t n_pairs = pairs_.size();
  std::vector<double> sum(n_layers_ * n_pairs, 0), lost(sum), least(sum.size(), infinity);  // [target, pairs]
  std::vector<double> group(sum.size() * n_kv_heads_, 0);  // [target, pairs, heads]
  std::vector<std::vector<int>> served;
  for (const int l : grid_.l_pages) served.push_back(pairs_of(pairs_, l));
  PageOrder order;
  std::vector<int32_t> list;
  for (int s = 0; s < maps.n_steps; ++s) {
    if (maps.seen(s) <= grid_.k_pages.front()) continue;
    order.rank(maps.score_of(source, s), grid_.k_pages.back());
    for (std::size_t l = 0; l < served.size(); ++l) {
      if (served[l].empty()) continue;
      order.list(grid_.k_pages.back(), grid_.l_pages[l], list);
      for (int target = source; target < n_layers_; ++target) {
        walk(maps.mass_of(target, s), list, pairs_, served[l], [&](int pair, double recall) {
          const std::size_t cell = target * n_pairs + pair;
          sum[cell] += recall;
          lost[cell] += std::max(0.0, 1 - recall);
          least[cell] = std::min(least[cell], recall);
          if (histogram) histogram->add(pair, target, source, recall);
        });
        for (int g = 0; g < n_kv_heads_; ++g)
          walk(maps.group_mass_of(target, s, g), list, pairs_, served[l], [&](int pair, double recall) {
            group[(target * n_pairs + pair) * n_kv_heads_ + g] += recall;
          });
      }
    }
  }
  for (int target = source; target < n_layers_; ++target)
    for (std::size_t pair = 0; pair < n_pairs; ++pair) {
      const std::size_t to = (pair * n_layers_ + target) * n_layers_ + source, from = target * n_pairs + pair;
      sum_[to] += sum[from];
      lost_[to] += lost[from];
      least_[to] = std::min(least_[to], least[from]);
      for (int g = 0; g < n_kv_heads_; ++g) group_[to * n_kv_heads_ + g] += group[from * n_kv_heads_ + g];
    }
}

void RecallSums::add_oracle(const StepMaps& maps, int layer) {
  std::vector<float> mass;
  for (int s = 0; s < maps.n_steps; ++s) {
    const auto row = maps.mass_of(layer, s);
    mass.assign(row.begin(), row.end());
    const int top = std::min<int>(grid_.k_pages.back(), static_cast<int>(mass.size()));
    std::nth_element(mass.begin(), mass.begin() + top - 1, mass.end(), std::greater<>());
    std::sort(mass.begin(), mass.begin() + top, std::greater<>());
    double kept = 0;
    int i = 0;
    for (std::size_t k = 0; k < grid_.k_pages.size() && grid_.k_pages[k] < std::ssize(mass); ++k) {
      for (; i < grid_.k_pages[k]; ++i) kept += mass[i];
      oracle_[k * n_layers_ + layer] += kept;
    }
  }
}

SampleRecall RecallSums::finish(std::string id, std::string problem) const {
  SampleRecall out{
      std::move(id), std::move(problem), n_layers_, n_steps_, n_active_, {}, {}, {}, {}, n_kv_heads_, {}};
  const auto mean = [](double sum, int n) {
    return n > 0 ? static_cast<float>(sum / n) : static_cast<float>(nan);
  };
  out.mean_active.assign(sum_.size(), static_cast<float>(nan));
  out.worst = out.mean_lost = out.mean_active;
  out.group_active.assign(group_.size(), static_cast<float>(nan));
  for (std::size_t pair = 0; pair < pairs_.size(); ++pair) {
    const auto k = std::ranges::find(grid_.k_pages, pairs_[pair].k_pages) - grid_.k_pages.begin();
    for (int target = 0; target < n_layers_; ++target)
      for (int source = 0; source <= target; ++source) {
        const std::size_t cell = out.at(static_cast<int>(pair), target, source);
        out.mean_lost[cell] = mean(lost_[cell], n_steps_);
        if (n_active_[k] == 0) continue;
        out.mean_active[cell] = mean(sum_[cell], n_active_[k]);
        out.worst[cell] = static_cast<float>(least_[cell]);
        for (int g = 0; g < n_kv_heads_; ++g)
          out.group_active[cell * n_kv_heads_ + g] = mean(group_[cell * n_kv_heads_ + g], n_active_[k]);
      }
  }
  for (std::size_t i = 0; i < oracle_.size(); ++i)
    out.oracle.push_back(mean(oracle_[i], n_active_[i / n_layers_]));
  return out;
}

std::vector<SampleRecall> recalls(const trace::Reader& reader, const Grid& grid) {
  check(grid);
  std::vector<SampleRecall> out;
  for (int sample = 0; sample < reader.n_samples(); ++sample) {
    RecallSums sums(grid, reader.model().n_layers);
    for_each_block(reader, sample, [&](const StepMaps& maps) { sums.add(maps); });
    out.push_back(sums.finish(reader.info(sample).id, reader.info(sample).problem));
  }
  return out;
}

}  // namespace deltacal::calib
