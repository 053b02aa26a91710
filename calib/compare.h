// `calibrate --compare`: methods at equal cost, by what their schedules really lose on the same samples, and
// how well each surrogate would have told so.
//
// Every figure of a schedule is a mean over samples, with its interval by the bootstrap over problems; all of
// them from the same resamples. Methods are compared with the winner by the paired bootstrap of per-sample
// differences. The winner is named by the caller, not picked here: the method with the least gap on these
// samples would look better than it is.
#pragma once
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "calib/bootstrap.h"
#include "calib/prediction.h"
#include "calib/rank_correlation.h"
#include "calib/stability.h"
#include "config/schedule.h"
#include "core/model_info.h"

namespace deltacal::calib {

// ---- what was measured ----

// A schedule, by which method it was found, and what it does.
struct MeasuredSchedule {
  static constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
  std::string method;             // "dp", "cosine-peaks", ...
  std::string schedule;           // config::describe
  std::vector<int> delta_layers;  // ascending
  double attended_ratio = unknown;           // on the lengths that the budget was met on
  double attended_ratio_measured = unknown;  // of the runs themselves
  double predicted_kl = unknown;   // nats a token
  double recall = unknown;         // mean over sparse layers of mean recall
  std::vector<double> surrogates;  // [n_surrogates] the larger, the worse; NaN: unknown
  // [n_samples] nats a token; NaN for a sample that no schedule is scored on
  std::vector<double> nll_gap, kl;
  double seconds = 0;    // that the method took
  bool is_mean = false;  // of several schedules: a row, but nothing to rank
};

// Method, text and Δ-layers; the figures are left to the caller.
MeasuredSchedule measured_schedule(std::string method, const config::Schedule&);

// Sample by sample the mean of several schedules, the seconds added up: the row of a method that draws.
// bad_input for none, or for different numbers of samples.
MeasuredSchedule mean_of_schedules(std::string method, std::span<const MeasuredSchedule>);

struct MeasuredBudget {
  double budget = 1;          // attended-token ratio asked for
  MeasuredSchedule schedule;  // nll_gap and kl may be empty: not run
};

struct Measurements {
  std::vector<std::string> problems;      // [n_samples]
  std::vector<MeasuredSchedule> methods;  // the rows, in order; names differ
  std::string winner;                     // the method of one row
  std::vector<MeasuredSchedule> others;   // no rows; they count for surrogates and prediction
  std::vector<std::string> surrogates;    // [n_surrogates] names, "predicted_kl"
  std::vector<MeasuredBudget> budgets;    // one method over several budgets
};

// ---- what it means ----

struct MethodRow {
  std::string name, schedule;
  std::vector<int> delta_layers;
  double attended_ratio = 1, attended_ratio_measured = 1, predicted_kl = 0, recall = 0;
  Estimate nll_gap, kl;               // nats a token
  std::optional<Estimate> vs_winner;  // NLL gap - that of the winner; not of the winner
  double seconds = 0;
};

struct SurrogateRow {
  std::string name;
  RankCorrelation rank;  // with the NLL gap
};

struct ParetoRow {
  double budget = 1, attended_ratio = 1, predicted_kl = 0, recall = 0;
  std::string schedule;
  std::vector<int> delta_layers;
  std::optional<Estimate> nll_gap, kl;  // empty: not run
};

struct MethodComparison {
  ModelInfo model;
  std::string trace_path, trace_sha256;  // that the methods chose from
  std::string data_path, data_sha256;    // that their schedules were run on
  int max_tokens = 0, pack = 0;          // of the data; 0: all, none
  std::string budget, objective;         // as asked: "attended=3"; "kl" or "recall"
  int context = 0;  // lengths that the budget was met on: steps 0..context-1; 0: the samples' own
  Bootstrap bootstrap;
  std::string no_interval_reason;  // empty where there are intervals
  int n_samples = 0, n_problems = 0;
  std::string winner;
  std::vector<MethodRow> methods;
  std::vector<SurrogateRow> surrogates;
  std::optional<Prediction> prediction;  // empty where no predicted KL is known
  Stability stability;
  std::vector<ParetoRow> pareto;
};

// All but model, trace, data, max_tokens, pack, budget, context, objective and stability, which are left to
// the caller. bad_input for no method or sample, a winner that is no row, two rows of one name, sizes that do
// not fit, a figure that is infinite, or a sample that is missing for one schedule and there for another.
MethodComparison compare_methods(const Measurements&, const Bootstrap&);

}  // namespace deltacal::calib
