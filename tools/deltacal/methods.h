// The task of `calibrate`, taken from a trace, and the schedule that each method chooses for it. Whatever
// needs a model to run is not here (compare.cpp).
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "calib/baselines.h"
#include "calib/budget.h"
#include "calib/edges.h"
#include "calib/joint_order.h"
#include "calib/predicted_kl.h"
#include "calib/recall.h"
#include "calib/schedule/goals.h"
#include "calib/to_config.h"
#include "core/error.h"
#include "options.h"
#include "trace/trace.h"

namespace deltacal::tools {

struct Problem {
  calib::Grid grid;
  calib::Bootstrap bootstrap;
  std::vector<calib::SampleRecall> recalls;  // [n_samples]
  std::vector<calib::SampleKl> kl;           // [n_samples]; empty unless every sample has it
  std::string objective, objective_reason;   // "kl" or "recall", and why
  calib::EdgeCosts edges;                    // losses of the objective
  calib::EdgeCosts recall_edges;             // losses of the objective recall
  std::vector<double> oracle;                // [n_k, n_layers] mean oracle recall
  std::vector<double> drift;                 // [n_layers] mean layer drift
  calib::StepCosts steps;
  calib::LayerCosts layers;  // positions
  calib::Goal goal;
  calib::schedule::Costs costs;  // in the goal's unit
  calib::schedule::Options solver;
  int n_layers = 0;
  PageScore page_score = PageScore::sum;  // of every schedule chosen
  // Cross terms of the predicted KL, that order the solver's candidates; null where they are not known (another
  // objective, ranking or part of the steps than the trace's changes of the loss are of) or not asked for.
  std::shared_ptr<calib::JointPredictor> joint = nullptr;
  calib::Order order = calib::Order::additive;
  std::vector<int> samples = {};  // of the trace, that all of this is of

  // Positions that a schedule of the solver attends to; where a signal makes the lists, its cost, which is in
  // positions.
  long long attended(const calib::schedule::Candidate&) const;
  double ratio_of(long long attended) const;  // attended-token ratio
  double ratio_of(const config::Schedule& s) const {
    return ratio_of(calib::schedule::attended_by(steps, s));
  }
  long long budget_of(double ratio) const { return calib::attended_budget(layers, n_layers, ratio); }
  int full_layers() const { return solver.full_layers.value_or(2); }  // of the methods that do not choose it
  // Whether the budget is one of positions, as all methods but the solver's take it.
  bool in_positions() const {
    return goal.kind == calib::Goal::Kind::attended || goal.kind == calib::Goal::Kind::bytes;
  }
};

// Reads the trace once. bad_input for options out of range, and for `kl` without predicted KL.
Problem problem_of(const CalibrateOptions&, const trace::Reader&);

// The same task from some of the samples alone, and a budget of positions met on their own lengths. For the
// solver: the bounds of recall, the oracle and the drift, which other methods read, are not those of the
// samples.
Problem restricted(const CalibrateOptions&, const trace::Reader&, const Problem&,
                   const std::vector<int>& samples);

// Methods that choose from the trace alone: dp, recall-dp, cosine-peaks, kascade, tidal, uniform, random.
const std::vector<std::string>& trace_methods();
// Whether a method chooses by recall, which is known of lists by the page score sum alone.
bool needs_recall(const std::string& method);
// Empty where none of the method's schedules meets the budget (positions). The loss is that of the objective.
std::optional<calib::Choice> choose(const std::string& method, const CalibrateOptions&, const Problem&,
                                    long long budget);

// The solver's candidates for the goal, best first: for a budget, in the order of p.order. Empty where no schedule
// meets it. A predicted KL is met
// by the upper bound of its interval over problems, where there is one.
std::vector<calib::Choice> solve(const Problem&, int candidates);

// bad_input: no schedule meets the budget; names the nearest.
Error no_schedule(const CalibrateOptions&, const Problem&);

// One sample's losses of the objective in the layout of EdgeCosts::loss, NaN where p.edges has none: a sample
// too short to lose anything has 0, as in the mean over all.
std::vector<double> sample_loss(const Problem&, size_t sample);

// Mean over the sparse layers of mean recall, k and L rounded down to the grid; NaN where unknown or without
// any, and for lists that serve several steps.
double mean_recall_of(const Problem&, const config::Schedule&);

// L of the methods that have none to choose it by: the grid's value nearest below the paper's window of 4
// pages.
int usual_l_pages(const Problem&);

}  // namespace deltacal::tools
