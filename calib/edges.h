// The cost of an edge a -> l: what sparse layer l loses when it reads the pages that Δ-layer a chose.
#pragma once
#include <span>
#include <vector>

#include "calib/bootstrap.h"
#include "calib/predicted_kl.h"
#include "calib/recall.h"
#include "config/schedule.h"

namespace deltacal::calib {

// Tables over target l, source a <= l, and the grid of K and L. NaN where nothing is known (source > target,
// K < L, no recorded step): the solver never uses such an edge.
struct EdgeCosts {
  static constexpr std::size_t none = static_cast<std::size_t>(-1);
  EdgeCosts() = default;
  EdgeCosts(int n_layers, std::vector<int> k_pages, std::vector<int> l_pages);  // all NaN

  int n_layers = 0;
  std::vector<int> k_pages, l_pages;  // the grid, ascending
  // [n_layers target, n_layers source, n_k, n_l] each
  std::vector<double> loss;                                  // >= 0; values of different edges add up
  std::vector<double> recall_mean, recall_low, recall_high;  // over active steps; bounds NaN without interval

  std::size_t at(int target, int source, int k_index, int l_index) const {
    return ((static_cast<std::size_t>(target) * n_layers + source) * k_pages.size() + k_index) *
               l_pages.size() +
           l_index;
  }
  // Index of the largest grid value that is at most `k`; -1 if all are larger.
  int k_floor(int k) const;
  int l_floor(int l) const;
};

// Objective `recall`: w[l] times the mean over samples (or another aggregate) of mean_lost, the share of
// attention mass lost per step (inactive steps add 0, so values of different K add up). `weights` [n_layers],
// 1 where empty. bad_input if there is no sample, or samples differ in their number of layers.
EdgeCosts recall_costs(const Grid&, std::span<const SampleRecall>, const Bootstrap&,
                       std::span<const double> weights = {}, const Aggregate& = {});

// Objective `kl`: the samples' predicted KL, aggregated edge by edge; nats a token. NaN where no recorded
// step sees more than K pages. Samples in the same order in both lists.
EdgeCosts kl_costs(const Grid&, std::span<const SampleRecall>, std::span<const SampleKl>, const Aggregate&,
                   const Bootstrap&);

// Entry in the tables for each sparse layer of a schedule, in ascending order, k and L rounded down to the
// grid; EdgeCosts::none where one lies below it.
std::vector<std::size_t> entries_of(const EdgeCosts&, const config::Schedule&);

}  // namespace deltacal::calib
