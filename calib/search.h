// Greedy search on the loss of real runs: the baseline `greedy-nll`, after IndexCache (arXiv 2603.12201),
// which starts with every layer choosing for itself and takes the choice from one layer after another, each
// time from the one that the language-model loss misses least.
//
// Here a round turns one Δ-layer into a sparse layer served by the nearest Δ-layer below. A run works to a
// number m of Δ-layers: the K that fills the budget with that many is known beforehand and serves all sparse
// layers from the first round on, so that the losses of all rounds are of one K; the budget is met by the
// last round alone. The paper fixes the number kept in advance too. It takes about n_layers^2 / 2 evaluations
// for each m.
#pragma once
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "calib/baselines.h"
#include "calib/budget.h"
#include "config/schedule.h"

namespace deltacal::calib {

// Mean NLL gap to full attention, in nats a token, of each schedule on the search samples. A whole round
// comes in one call.
using Evaluate = std::function<std::vector<double>(std::span<const config::Schedule>)>;

struct GreedyOptions {
  int full_layers = 2;  // these stay full, and the next one stays a Δ-layer
  int l_pages = 4;
  int least_k = 1;                // numbers of Δ-layers whose K lies below (or below l_pages) are left out
  std::vector<int> delta_layers;  // numbers m of Δ-layers to work to, the first included; each is a run
};

struct GreedyRound {
  int layer = 0;              // turned into a sparse layer
  config::Schedule schedule;  // after it
  double nll_gap = 0;         // of `schedule`
  int n_evaluated = 0;        // schedules
  double seconds = 0;
};

struct GreedyRun {
  int delta_layers = 0;
  int k_pages = 0;                  // 0: this many Δ-layers do not meet the budget, there are no rounds
  std::vector<GreedyRound> rounds;  // the last one's schedule meets the budget
};

struct Greedy {
  // The least NLL gap of the runs' last rounds; empty if no number of Δ-layers meets the budget.
  std::optional<config::Schedule> schedule;
  double nll_gap = 0;           // of `schedule`
  long long attended = 0;       // positions, over the steps of the costs
  std::vector<GreedyRun> runs;  // [delta_layers]
  int n_evaluated = 0;
  double seconds = 0;
};

// bad_input for options out of range, a number of gaps other than that of schedules, or a gap that is no
// number. A layer that loses as little as another goes first if it is lower.
Greedy greedy_search(int n_layers, const StepCosts&, long long budget, const GreedyOptions&, const Evaluate&);

}  // namespace deltacal::calib
