// Re-ranking by what schedules really lose on development samples (method.md, "Choosing a schedule"): the
// surrogate proposes, teacher-forced runs decide.
//
// Successive halving (Jamieson and Talwalkar, AISTATS 2016): all candidates on a few samples, the better half
// on twice as many, until the rest has seen all. Then a local search from the winner: of the schedules one
// step away, the one with the least mean NLL gap is taken if the paired bootstrap interval of its improvement
// lies above 0; otherwise the search ends. That interval is not corrected for the number of neighbours tried,
// so the gap of the schedule found is too good on these samples: report it on others.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "calib/bootstrap.h"
#include "calib/neighbours.h"
#include "config/schedule.h"

namespace deltacal::calib {

// NLL gap to full attention, in nats a token, [schedule][n] of the development samples first..first+n-1. No
// sample of a schedule is asked for twice.
using EvaluateSamples =
    std::function<std::vector<std::vector<double>>(std::span<const config::Schedule>, int first, int n)>;

struct RerankOptions {
  // [n_samples] Halving takes the samples in this order, so mix the problems.
  std::vector<std::string> problems;
  Bootstrap bootstrap;
  int first_samples = 2;    // of the first round of halving
  int max_rounds = 4;       // of the local search; 0: halving alone, because of `halving_alone`
  std::string halving_alone = "no local search: not asked for";  // then told as `stopped`
  int max_neighbours = 32;  // evaluated in one round
  NeighbourRules rules{};   // of the local search
  // Where more neighbours are within the budget, the ones with the least predicted loss are evaluated;
  // without it, the first ones in the order of neighbours_of().
  std::function<double(const config::Schedule&)> predicted{};
};

struct RerankTry {
  std::string change;  // "candidate 3" (from 0), or what differs from the schedule before
  config::Schedule schedule;
  double nll_gap = 0;    // mean over the samples seen so far
  Estimate improvement;  // local search: gap of the schedule before minus this one's, paired
  bool kept = false;     // for the next round, or as the result
};

struct RerankRound {
  std::string stage;  // "halving" or "local search"
  int n_samples = 0;  // seen by each try
  double seconds = 0;
  std::vector<RerankTry> tries;
};

struct Reranked {
  config::Schedule schedule;
  std::vector<double> nll_gap;  // [n_samples] of `schedule`
  int candidate = 0;            // the winner of halving, where the local search began
  std::vector<RerankRound> rounds;
  std::string stopped;  // why the local search ended, or was not made
  int n_evaluated = 0;  // schedules times samples
  double seconds = 0;
};

// Candidates best first: of equal gaps the earlier one is kept. bad_input for no candidate or sample, options
// out of range, gaps of another shape than asked for, or a gap that is no number.
Reranked rerank(std::span<const config::Schedule> candidates, const EvaluateSamples&, const RerankOptions&);

}  // namespace deltacal::calib
