// `calibrate --transfer`: does a schedule carry over to a task it was not calibrated on?
//
// A schedule for each task of the trace, calibrated on that task's samples alone, and one for all of them
// together; each is measured on the development samples of each task. Two schedules are compared on the same
// samples, by the paired bootstrap over their problems; figures of two tasks are of different texts and
// lengths, and are not compared.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "calib/bootstrap.h"
#include "calib/learning_curve.h"
#include "config/schedule.h"
#include "core/model_info.h"

namespace deltacal::calib {

// In place of a task's name: all tasks together.
inline constexpr const char* all_tasks = "all";

struct TransferSample {
  std::string task, problem;
  std::vector<std::string> parts;  // keys of the problems packed into it; empty where it holds one
  config::StepRange steps;         // all that count: n_prompt_tokens..n_tokens-1
};

// What samples of one task there are.
struct SampleCounts {
  std::string task;
  int n_samples = 0;
  int n_problems = 0;      // the units of the intervals; one for all that is packed into a sample
  int n_packed = 0;        // problems inside packed samples; 0: none is packed
  double mean_tokens = 0;  // of a sample
};

// The tasks of the samples in the order in which they appear. bad_input for one with the name of all_tasks.
std::vector<std::string> tasks_of(std::span<const TransferSample>);
// Indices of the samples of a task, or all.
std::vector<int> samples_of(std::span<const TransferSample>, const std::string& task);
SampleCounts counts_of(std::span<const TransferSample>, const std::string& task);

struct TransferSchedule {
  SampleCounts on;  // that it was calibrated on
  config::Schedule schedule;
  double attended_ratio = 1;        // on the lengths that the budget was met on
  double loss = 0;                  // of the objective, on its calibration samples
  std::vector<double> nll_gap, kl;  // [n_samples of development] nats a token
};

struct TransferCell {
  double attended_ratio = 1;       // on the measured samples' own lengths
  Estimate nll_gap, kl;            // nats a token
  std::optional<Estimate> vs_own;  // NLL gap minus that of the schedule calibrated on the measured task; not
                                   // of itself, and not where there is none
};

struct MeasuredTask {
  SampleCounts samples;
  std::string no_interval_reason;  // empty where there are intervals
};

struct Transfer {
  ModelInfo model;
  std::string trace_path, trace_sha256;  // calibrated on
  std::string data_path, data_sha256;    // measured on
  int max_tokens = 0, pack = 0;          // of the data; 0: all, none
  std::string budget, objective;
  int context = 0;  // lengths that the budget was met on: steps 0..context-1; 0: each task's own
  Bootstrap bootstrap;
  std::vector<TransferSchedule> schedules;        // a task each, then all
  std::vector<MeasuredTask> measured_on;          // a task each, then all
  std::vector<std::vector<TransferCell>> matrix;  // [schedules][measured_on]
  std::vector<CurveRow> learning_curve;           // fewer samples, then fewer steps, then everything
  std::string curve_reason;                       // why (a part of) the curve is not there; empty where it is
};

// Fills in bootstrap, measured_on, matrix and learning_curve of the schedules given; the last of them is that
// of all tasks. bad_input for no sample or schedule, two schedules of one task, figures of another number of
// samples, or one that is not finite.
void measure_transfer(std::span<const TransferSample> development, std::span<const MeasuredPoint> curve,
                      const Bootstrap&, Transfer&);

}  // namespace deltacal::calib
