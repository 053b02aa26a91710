// Full attention against schedules and other policies on the same tokens: `validate` (method.md,
// "Validation").
//
// Figures of a sample are means over its steps; figures of a policy are means over samples, with intervals by
// the bootstrap over problems. Median and 99% quantile of KL are over all steps of all samples together.
// Policies are compared on the active steps of the config under test, U(t) > its smallest k, the same for
// all.
#pragma once
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "calib/bootstrap.h"
#include "core/model_info.h"

namespace deltacal::calib {

// ---- what was measured ----

struct LayerMean {
  int layer = 0;
  double mean = 0;  // NaN where there was no active step
};

// Step i is the position first_step + i, for the positions first_step..n_tokens-1.
struct EvaluatedPolicy {
  std::vector<float> nll;         // [steps] nats, of the next token; NaN at the last step
  std::vector<float> kl;          // [steps] KL(full || policy), nats
  std::vector<uint8_t> top1;      // [steps] 1: the same most likely token as full attention
  long long attended = 0;         // positions, over all layers and steps
  std::vector<LayerMean> recall;  // on the policy's own hidden states; of the layers that are sparse
};

struct EvaluatedSample {
  std::string id, problem;
  int first_step = 0;  // n_prompt_tokens
  int n_tokens = 0;
  std::vector<float> nll_full;            // [steps]
  long long positions = 0;                // attended by full attention
  std::vector<EvaluatedPolicy> policies;  // [n_policies] in the order of Evaluation::policies
};

struct Evaluation {
  std::vector<std::string> policies;  // names but "full"; the first is the one under test
  int smallest_k = 0;                 // of the sparse layers under test, pages; 0: no layer is sparse
  bool with_full = false;             // whether "full" is a row of the result
  std::vector<EvaluatedSample> samples;
};

struct Thresholds {
  std::optional<double> max_nll_gap;         // nats a token on active steps: upper bound of the interval
  std::optional<double> min_attended_ratio;  // of the policy under test
};

// ---- what it means ----

inline constexpr double missing = std::numeric_limits<double>::quiet_NaN();

// Over some steps. NaN where there is none.
struct Scores {
  int n_steps = 0, n_samples = 0, n_problems = 0;  // with at least one such step
  double nll = missing;                            // nats a token
  Estimate nll_gap{missing, {}, {}};               // NLL - NLL of full attention
  Estimate kl{missing, {}, {}};                    // nats a token
  double kl_median = missing, kl_p99 = missing;
  double top1 = missing;  // share of steps
};

struct Bin {
  int from = 0, to = 0;  // positions from..to-1
  Scores active, all;
};

struct SampleScores {
  double nll_full = missing, nll = missing, kl = missing, top1 = missing;
};

struct SampleRow {
  std::string id, problem;
  int active_steps = 0;
  SampleScores active, all;
};

struct PolicyResult {
  std::string name;
  double attended_ratio = 1;
  Scores active, all;
  std::vector<Bin> bins;           // those that hold a step
  std::vector<SampleRow> samples;  // [n_samples]
  int samples_without_active = 0;
  std::vector<std::pair<int, Estimate>> recall;  // layer, recall on the policy's own hidden states
  std::optional<Estimate> vs_delta;  // NLL gap - that of the policy under test; not of that policy
};

struct ThresholdResult {
  std::string name;             // "max_nll_gap", "min_attended_ratio"
  double limit = 0;             // as asked
  double value = missing;       // as measured
  std::optional<double> bound;  // what was held against the limit; empty without an interval
  bool met = false;
};

struct Validation {
  ModelInfo model;
  std::string config_path, config_sha256, schedule;  // schedule: config::describe
  std::string data_path, data_sha256;
  int max_tokens = 0, pack = 0;  // of the data; 0: all, none
  Bootstrap bootstrap;
  std::string no_interval_reason;  // empty where there are intervals
  int n_samples = 0, n_problems = 0;
  std::vector<PolicyResult> policies;
  std::optional<bool> passed;  // empty without thresholds
  std::vector<ThresholdResult> thresholds;
};

// Policies and verdict; model, config, data, max_tokens and pack are left to the caller. bad_input for no
// sample, no policy, or arrays that do not fit their sample.
Validation compare(const Evaluation&, const Thresholds&, const Bootstrap&);

}  // namespace deltacal::calib
