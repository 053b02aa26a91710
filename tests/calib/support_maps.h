// Small page maps in memory, and the definitions of method once more in the plainest form.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <span>
#include <vector>

#include "calib/step_maps.h"

namespace deltacal::calib::test {

// Owns what a StepMaps views.
struct OwnedMaps {
  int n_layers = 0, n_pages = 0, n_kv_heads = 0;
  std::vector<int32_t> steps, burst;
  std::vector<float> score, mass;  // [n_layers, n_steps, n_pages]
  std::vector<float> group_mass;   // [n_layers, n_steps, n_kv_heads, n_pages]

  int n_steps() const { return static_cast<int>(steps.size()); }
  StepMaps view() const {
    return {n_layers, n_steps(), n_pages, score, mass, steps, burst, n_kv_heads, group_mass};
  }
  float& score_at(int l, int s, int u) { return score[(std::size_t(l) * n_steps() + s) * n_pages + u]; }
  float& mass_at(int l, int s, int u) { return mass[(std::size_t(l) * n_steps() + s) * n_pages + u]; }

  // Steps first..first+n-1 alone, as a reader would hand them over.
  OwnedMaps slice(int first, int n) const {
    OwnedMaps out{n_layers, n_pages, n_kv_heads, {}, {}, {}, {}, {}};
    out.steps.assign(steps.begin() + first, steps.begin() + first + n);
    out.burst.assign(burst.begin() + first, burst.begin() + first + n);
    const auto copy = [&](const std::vector<float>& from, std::vector<float>& to, int row) {
      for (int l = 0; l < n_layers && row > 0; ++l) {
        const auto begin = from.begin() + (std::size_t(l) * n_steps() + first) * row;
        to.insert(to.end(), begin, begin + std::size_t(n) * row);
      }
    };
    copy(score, out.score, n_pages);
    copy(mass, out.mass, n_pages);
    copy(group_mass, out.group_mass, n_pages * n_kv_heads);
    return out;
  }
};

// Random maps over the steps given. Scores take few values, so that ties are common; rows beyond U(t) hold
// junk that nothing may read.
inline OwnedMaps random_maps(uint32_t seed, int n_layers, std::vector<int32_t> steps,
                             std::vector<int32_t> burst, int n_kv_heads = 0) {
  std::mt19937 random(seed);
  const auto uniform = [&] { return static_cast<double>(random()) / 4294967296.0; };
  OwnedMaps out{
      n_layers, pages_seen(steps.back()) + 2, n_kv_heads, std::move(steps), std::move(burst), {}, {}, {}};
  const auto add_shares = [&](std::vector<float>& to, int seen) {
    std::vector<double> row(seen);
    for (double& m : row) m = std::pow(uniform(), 4);
    const double sum = std::accumulate(row.begin(), row.end(), 0.0);
    for (int u = 0; u < out.n_pages; ++u) to.push_back(u < seen ? static_cast<float>(row[u] / sum) : 0.75f);
  };
  for (int l = 0; l < n_layers; ++l)
    for (const int32_t t : out.steps) {
      const int seen = pages_seen(t);
      for (int u = 0; u < out.n_pages; ++u)
        out.score.push_back(u < seen ? static_cast<float>(std::floor(8 * uniform()) / 8) : 99.0f);
      add_shares(out.mass, seen);
      for (int g = 0; g < n_kv_heads; ++g) add_shares(out.group_mass, seen);
    }
  return out;
}

inline std::vector<int32_t> run_of_steps(int first, int n) {
  std::vector<int32_t> out(n);
  std::iota(out.begin(), out.end(), first);
  return out;
}

// select(S, K, L) by its definition: the newest L, then all others in the order of S[u] - b u.
inline std::vector<int32_t> select(std::span<const float> score, int k, int l, double b = 1e-7) {
  const int n = static_cast<int>(score.size());
  std::vector<int32_t> out, others;
  for (int u = n - 1; u >= std::max(0, n - l); --u) out.push_back(u);
  for (int u = 0; u < n - l; ++u) others.push_back(u);
  const auto key = [&](int u) { return std::isnan(score[u]) ? -INFINITY : double(score[u]) - b * u; };
  std::stable_sort(others.begin(), others.end(), [&](int a, int c) { return key(a) > key(c); });
  out.insert(out.end(), others.begin(), others.end());
  out.resize(std::min(k, n));
  return out;
}

// Mass on the pages of a list, any row.
inline double mass_on(std::span<const float> mass, const std::vector<int32_t>& pages) {
  double sum = 0;
  for (const int32_t u : pages) sum += mass[u];
  return sum;
}

// Mean of what `value` gives for each recorded step, NaN left out; NaN if nothing is left.
template <class Value>
double mean_over_steps(const StepMaps& maps, Value value) {
  double sum = 0;
  int n = 0;
  for (int s = 0; s < maps.n_steps; ++s) {
    const double v = value(s);
    if (std::isnan(v)) continue;
    sum += v;
    ++n;
  }
  return n > 0 ? sum / n : std::numeric_limits<double>::quiet_NaN();
}

inline constexpr double missing = std::numeric_limits<double>::quiet_NaN();

// Both missing, or equal to `tolerance`.
inline bool same(double a, double b, double tolerance = 1e-6) {
  return std::isnan(a) || std::isnan(b) ? std::isnan(a) == std::isnan(b) : std::abs(a - b) <= tolerance;
}

}  // namespace deltacal::calib::test
