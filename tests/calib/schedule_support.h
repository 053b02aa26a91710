// Random tables for the solver, and the solver's task solved by trying everything.
#pragma once
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <vector>

#include "calib/schedule/schedule.h"

namespace deltacal::calib::test {

enum class Losses {
  uniform,  // independent, not monotone in K or L
  tied,     // multiples of 1/4, many equal
  holes,    // a third of the edges unknown
  equal,    // all the same
  real,     // falls with K and grows with distance, as recall loss does
};

inline EdgeCosts random_edges(int n_layers, std::vector<int> k_pages, std::vector<int> l_pages, Losses kind,
                              unsigned seed) {
  EdgeCosts edges(n_layers, std::move(k_pages), std::move(l_pages));
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform(0, 1);
  std::vector<double> weight(n_layers), source_weight(n_layers);
  for (auto& w : weight) w = std::pow(uniform(random), 3);
  for (auto& w : source_weight) w = 0.3 + uniform(random);
  for (int target = 0; target < n_layers; ++target)
    for (int source = 0; source <= target; ++source)
      for (int k = 0; k < static_cast<int>(edges.k_pages.size()); ++k)
        for (int l = 0; l < static_cast<int>(edges.l_pages.size()); ++l) {
          if (edges.k_pages[k] < edges.l_pages[l]) continue;
          const double u = uniform(random);
          double loss = u;
          if (kind == Losses::tied) loss = std::floor(u * 4) / 4;
          if (kind == Losses::equal) loss = 0.5;
          if (kind == Losses::real)
            loss = weight[target] * source_weight[source] * (1 - std::exp(-0.3 * (target - source))) *
                   std::pow(edges.k_pages[k], -0.7) * (1 + 0.05 * u);
          if (kind == Losses::holes && u < 0.33) continue;
          const size_t edge = edges.at(target, source, k, l);
          edges.loss[edge] = loss;
          edges.recall_mean[edge] = 1 - loss;
          edges.recall_low[edge] = 1 - loss - 0.1 * uniform(random);
          edges.recall_high[edge] = 1 - loss + 0.05;
        }
  return edges;
}

struct Found {
  long long cost = 0;
  double loss = std::numeric_limits<double>::infinity();
};

// Every schedule that the options allow, in which each delta layer serves a sparse one: `visit(set of delta
// layers as bits, cost, loss)`.
class EverySchedule {
 public:
  using Visit = std::function<void(unsigned, long long, double)>;
  EverySchedule(const EdgeCosts& edges, const LayerCosts& costs, const schedule::Options& options,
                double min_recall = -1)
      : edges_(edges), costs_(costs), options_(options), min_recall_(min_recall) {}
  void run(const Visit& visit) const {
    const bool keeps = options_.keeps_lists();
    for (int list_k = keeps ? 0 : -1; list_k < (keeps ? int(edges_.k_pages.size()) : 0); ++list_k) run(list_k, visit);
  }

 private:
  // list_k: the length of all lists that serve several steps.
  void run(int list_k, const Visit& visit) const {
    layer(0, {.list_k = list_k}, 0, 0.0, [&](unsigned set, long long cost, double loss) {
      const int n = __builtin_popcount(set);
      if (options_.n_deltas && n != *options_.n_deltas) return;
      unsigned wanted = 0;
      for (int l : options_.delta_layers.value_or(std::vector<int>{})) wanted |= 1u << l;
      if (!options_.delta_layers || set == wanted) visit(set, cost, loss);
    });
  }

  struct State {
    int source = -1, l = 0;
    int k = -1;  // shared by the segment, or by all; -1: not chosen yet
    bool served = true;
    unsigned set = 0;
    int list_k = -1;
  };
  void layer(int at, const State& s, long long cost, double loss, const Visit& visit) const {
    if (at == edges_.n_layers) {
      if (s.served) visit(s.set, cost, loss);
      return;
    }
    layer(at + 1, s, cost + costs_.full, loss, visit);
    if (at < options_.full_layers.value_or(0)) return;
    if (s.served)
      for (int l = 0; l < static_cast<int>(edges_.l_pages.size()); ++l) {
        // Between its lists the Δ-layer reads its own.
        const double own = s.list_k < 0 ? 0 : edges_.loss[edges_.at(at, at, s.list_k, l)];
        if (std::isnan(own)) continue;
        const int k = options_.budgets == schedule::Budgets::one ? s.k : -1;
        layer(at + 1, {at, l, k, false, s.set | 1u << at, s.list_k},
              cost + (s.list_k < 0 ? costs_.delta : costs_.listed[size_t(at)][size_t(s.list_k)]), loss + own,
              visit);
      }
    if (s.source < 0) return;
    for (int k = 0; k < static_cast<int>(edges_.k_pages.size()); ++k) {
      const bool shared = options_.budgets != schedule::Budgets::per_layer;
      if (shared && s.k >= 0 && k != s.k) continue;
      if (edges_.k_pages[k] < edges_.l_pages[s.l] || (s.list_k >= 0 && k > s.list_k)) continue;
      const size_t edge = edges_.at(at, s.source, k, s.l);
      if (std::isnan(edges_.loss[edge])) continue;
      if (min_recall_ >= 0 && !(edges_.recall_low[edge] >= min_recall_)) continue;
      layer(at + 1, {s.source, s.l, shared ? k : -1, true, s.set, s.list_k}, cost + costs_.sparse[k],
            loss + edges_.loss[edge], visit);
    }
  }
  const EdgeCosts& edges_;
  const LayerCosts& costs_;
  schedule::Options options_;
  double min_recall_;
};

inline unsigned set_of(const config::Schedule& schedule) {
  unsigned set = 0;
  for (size_t layer = 0; layer < schedule.layers.size(); ++layer)
    if (schedule.layers[layer].role == config::Role::delta) set |= 1u << layer;
  return set;
}

}  // namespace deltacal::calib::test
