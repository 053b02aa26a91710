// Kascade (arXiv 2512.16391): anchor layers by dynamic programming over the similarity of layers, whatever
// they cost.
//
// The similarity of target l and source a is the share of what l's own best pages hold that a's pages hold
// too, R[l<-a](K, L) / O[l](K): here the ratio of means over active steps and samples, all heads together.
// The authors' program differs in what a trace does not hold: it matches heads (the best source head for each
// of the target's), takes the least token of a prompt, and weighs layers by how much their attention turns
// the hidden state. Anchors are what this project calls Δ-layers; each other layer reads the list of the
// nearest one below.
#pragma once
#include <Eigen/Core>
#include <optional>
#include <span>
#include <vector>

#include "calib/baselines.h"

namespace deltacal::calib::baselines {

// Mean oracle recall of the samples that have one, [n_k, n_layers] for n_k values of K; NaN where none has.
// bad_input for no sample, or samples of other sizes.
std::vector<double> mean_oracle(std::span<const SampleRecall>, int n_k);

// [n_layers target, n_layers source] at index k and l of the grid; NaN where recall is unknown or the oracle
// is 0. oracle [n_k, n_layers]: mean oracle recall over active steps and samples. bad_input for another size.
Eigen::MatrixXd kascade_similarity(const EdgeCosts&, std::span<const double> oracle, int k_index,
                                   int l_index);

// The m layers, ascending, that maximise the sum over the other layers from full_layers on of their
// similarity to the nearest one below; exact. The first is full_layers, so that every layer has one. Of equal
// sums the one whose last layer, then the one before it, ..., is lowest. Empty if every choice needs an
// unknown similarity. bad_input unless 1 <= m <= n_layers - full_layers.
std::vector<int> kascade_layers(const Eigen::MatrixXd& similarity, int full_layers, int m);

// For each m the largest K that meets the budget, the anchors at that K (and L) rounded down to the grid; of
// all m the one with the least summed loss, as for the other baselines. Empty if none meets the budget.
std::optional<BaselineSchedule> kascade(const EdgeCosts&, std::span<const double> oracle, const StepCosts&,
                                        long long budget, const BaselineOptions&);

}  // namespace deltacal::calib::baselines
