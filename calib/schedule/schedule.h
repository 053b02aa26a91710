// The schedules of least loss within a budget, exact for a loss that is a sum over sparse layers.
//
// A schedule gives each layer a role: full, delta, or sparse with the list of the nearest delta layer below
// it. All sparse layers of one segment (delta layer to next delta layer) share L; each has its own k from the
// grid, L <= k. A full layer may stand anywhere; the first `full_layers` are full in any case. A delta layer
// that serves no sparse layer is never returned: it is the same as a full one, unless lists serve several
// steps.
//
// Candidates have different sets of Δ-layers, each with the best k and L for its set, best first: by loss,
// then cost, then fewer Δ-layers; of sets that tie within rounding for the last place any may be there.
// Sparse layers that would cost as much as full ones are not used.
//
// Where lists serve several steps (Options::keeps_lists) all Δ-layers have lists of one length K, of the
// grid, which is chosen too, k <= K; a Δ-layer costs LayerCosts::listed and loses what the edge to itself
// says: K and L of its list. Still exact.
#pragma once
#include <optional>
#include <span>
#include <vector>

#include "calib/budget.h"
#include "calib/edges.h"
#include "config/schedule.h"

namespace deltacal::calib::schedule {

// Which sparse layers share one k.
enum class Budgets {
  per_layer,    // none: each has its own
  per_segment,  // those between two Δ-layers
  one,          // all of them, as in the official DELTA implementation
};

struct Options {
  // The first so many layers are full; empty: as many as is best, 0 or more.
  std::optional<int> full_layers = 2;
  Budgets budgets = Budgets::per_layer;
  int candidates = 16;            // so many sets of Δ-layers
  std::optional<int> n_deltas{};  // exactly so many Δ-layers
  // Exactly these Δ-layers, ascending, each with a sparse layer to serve: k, L and what else is full is
  // chosen, and there is one candidate, or none where a Δ-layer cannot serve any.
  std::optional<std::vector<int>> delta_layers{};
  // That losses and costs are of: as in config::Schedule.
  int refresh_interval = 1;
  std::optional<config::AdaptiveRefresh> refresh{};
  bool keeps_lists() const { return refresh_interval > 1 || refresh; }
};

struct Candidate {
  config::Schedule schedule;
  double loss = 0;     // sum of the edges' losses
  long long cost = 0;  // in the unit of LayerCosts, over the steps that they were taken on
};

// All of these throw bad_input for options out of range and tables that do not fit each other. With n_deltas
// or delta_layers there may be no schedule at all, whatever the cost.

// The schedules of least loss that cost at most `budget`; empty if none does (then see cheapest()).
std::vector<Candidate> k_best(const EdgeCosts&, const LayerCosts&, long long budget, const Options&);

// The best schedule for each budget; empty where none meets it.
std::vector<std::optional<Candidate>> pareto(const EdgeCosts&, const LayerCosts&,
                                             std::span<const long long> budgets, const Options&);

// The cheapest schedules whose summed loss is at most `target` (in the losses' unit: nats a token for
// predicted KL). Cheapest first, then least loss.
std::vector<Candidate> cheapest_with_loss(const EdgeCosts&, const LayerCosts&, double target, const Options&);

// The cheapest schedules in which every sparse layer's recall has a lower bound of at least `min_recall`; an
// edge without such a bound does not qualify. Cheapest first, then least loss. All layers full qualifies, and
// is the only answer where no edge does.
std::vector<Candidate> cheapest_with_recall(const EdgeCosts&, const LayerCosts&, double min_recall,
                                            const Options&);

// The cheapest schedule whatever it loses: the nearest to a budget that none meets.
std::optional<Candidate> cheapest(const EdgeCosts&, const LayerCosts&, const Options&);

// Sum of the losses of a schedule's sparse layers, and of its Δ-layers where lists serve several steps, k and
// L rounded down to the grid; NaN if an edge is unknown.
double loss_of(const EdgeCosts&, const config::Schedule&);

// Positions attended by a schedule over the steps that `costs` was made for; any k and L. bad_input with
// adaptive refresh.
long long attended_by(const StepCosts& costs, const config::Schedule&);

}  // namespace deltacal::calib::schedule
