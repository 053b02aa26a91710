// From a chosen schedule to delta_config.json: what to expect of it and where it came from.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "calib/budget.h"
#include "calib/edges.h"
#include "calib/split.h"
#include "config/config.h"
#include "core/model_info.h"

namespace deltacal::calib {

// A schedule with the figures that it was chosen by.
struct Choice {
  std::string method;  // "dp", "cosine-peaks", ...
  config::Schedule schedule;
  double loss = 0;         // sum over sparse layers; NaN where unknown
  long long attended = 0;  // positions, over the steps of the costs
};

struct CalibrationSample {
  std::string id, task, problem, sha256;  // sha256 of the token ids
  std::vector<std::string> parts{};       // of a packed sample: SplitSample
};

// As the provenance of an artefact lists a sample.
nlohmann::ordered_json json_sample(const CalibrationSample&);

struct CalibrationRecord {
  std::string trace_path, trace_sha256;
  std::vector<CalibrationSample> samples;
  std::string objective, objective_reason;  // "recall", and why it was taken
  std::string budget;                       // as asked: "attended=3", "min-recall=0.9"
  int context = 0;  // lengths the cost was taken on: steps 0..context-1, 0: the samples' own
  std::string aggregate = "mean";
  uint64_t seed = 0;
  std::string order = "additive";  // of the alternatives: joint_order.h
};

// choices[0] is written; all of them are listed as alternatives with their figures, best first. Expected
// recall is given for the sparse layers whose K and L lie on the grid, under DELTA's score alone; the
// expected attended-token ratio for the steps 0..C-1 of one sequence, C = 2048, 8192 and 32768 as far as the
// model goes, and the record's own context.
config::Config to_config(std::span<const Choice> choices, const ModelInfo&, const EdgeCosts&,
                         const StepCosts&, const CalibrationRecord&);

// The samples that a config was calibrated on; empty if it does not say. bad_input, `where` first, for a
// provenance of another form.
std::vector<SplitSample> calibrated_on(const config::Config&, const std::string& where);

}  // namespace deltacal::calib
