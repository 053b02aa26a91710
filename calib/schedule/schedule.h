// The schedules of least loss within a budget, exact for a loss that is a sum over sparse layers.
//
// A schedule gives each layer a role: full, delta, or sparse with the list of the nearest delta layer below
// it. All sparse layers of one segment (delta layer to next delta layer) share L; each has its own k from the
// grid, L <= k. A full layer may stand anywhere; the first `full_layers` are full in any case. A delta layer
// that serves no sparse layer is the same as a full one and is never returned.
//
// Candidates have different sets of Δ-layers, each with the best k and L for its set, best first: by loss,
// then cost, then fewer Δ-layers; of sets that tie within rounding for the last place any may be there.
// Sparse layers that would cost as much as full ones are not used.
#pragma once
#include <optional>
#include <span>
#include <vector>

#include "calib/budget.h"
#include "calib/edges.h"
#include "config/schedule.h"

namespace deltacal::calib::schedule {

struct Options {
  std::optional<int> full_layers =
      2;                   // the first so many layers are full; empty: as many as is best, 0 or more
  bool uniform_k = false;  // one K for all sparse layers, as in the official DELTA implementation
  int candidates = 16;     // so many sets of Δ-layers
};

struct Candidate {
  config::Schedule schedule;
  double loss = 0;         // sum of the edges' losses
  long long attended = 0;  // positions attended over the steps that the costs were taken on
};

// The best schedules that attend to at most `budget` positions; empty if none does (then see cheapest()).
// bad_input for options out of range or tables that do not fit each other.
std::vector<Candidate> k_best(const EdgeCosts&, const LayerCosts&, long long budget, const Options&);

// The cheapest schedules in which every sparse layer's recall has a lower bound of at least `min_recall`; an
// edge without such a bound does not qualify. Cheapest first, then least loss. Never empty: all layers full
// qualifies, and is the only answer where no edge does.
std::vector<Candidate> cheapest_with_recall(const EdgeCosts&, const LayerCosts&, double min_recall,
                                            const Options&);

// The schedule that attends to the fewest positions whatever it loses: the nearest to a budget that none
// meets.
Candidate cheapest(const EdgeCosts&, const LayerCosts&, const Options&);

// Sum of the losses of a schedule's sparse layers, k and L rounded down to the grid; NaN if an edge is
// unknown.
double loss_of(const EdgeCosts&, const config::Schedule&);

// Positions attended by a schedule over the steps that `costs` was made for; any k and L.
long long attended_by(const StepCosts& costs, const config::Schedule&);

}  // namespace deltacal::calib::schedule
