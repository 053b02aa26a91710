// Predicted KL of every edge a -> l, as the sensitivity pass recorded it (method.md, "Predicted KL of an
// edge").
#pragma once
#include <cmath>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "calib/recall.h"
#include "core/ranking.h"
#include "trace/trace.h"

namespace deltacal::calib {

// Of one sample. D is a mean over all recorded steps (inactive ones add 0), so values of different K add up.
struct SampleKl {
  std::string id, problem;
  int n_layers = 0;
  std::vector<float> kl;  // [pairs, n_layers target, n_layers source] nats a token; NaN where source > target
  std::size_t at(int pair, int target, int source) const {
    return (static_cast<std::size_t>(pair) * n_layers + target) * n_layers + source;
  }
};

bool has_sensitivity(const trace::Reader&);               // every sample has it
bool has_sensitivity(const trace::Reader&, const Grid&);  // and all of the grid's pairs in it

// Whether every sample has it under this ranking of the pages.
bool has_ranking(const trace::Reader&, const Ranking&);

// One entry a sample, pairs in the order of grid.pairs(). bad_input that names the flag where a sample was
// recorded without sensitivities or without this ranking, and the pair where one of the grid's was not
// recorded.
std::vector<SampleKl> predicted_kl(const trace::Reader&, const Grid&, const Ranking& = {});

// How an edge's loss is made of the samples'.
struct Aggregate {
  enum class Kind { mean, cvar, max } kind = Kind::mean;
  double tail = 1;  // cvar: the mean over the worst share of the samples, 0 < tail < 1
};
Aggregate parse_aggregate(std::string_view);  // "mean", "cvar:0.1", "max"; bad_input: what is accepted
std::string name_of(const Aggregate&);

// Of values without NaN; NaN for none. CVaR of a share that is no whole number of samples takes the last one
// in part. Aggregated edge by edge: the tail of a sum is not the sum of tails, so a schedule's sum is an
// upper bound of its own CVaR or maximum (subadditivity; Rockafellar and Uryasev, Optimization of conditional
// value-at-risk, 2000).
double aggregate(std::span<const double> values, const Aggregate&);

}  // namespace deltacal::calib
