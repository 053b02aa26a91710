// `analyze`: what a trace says about which layer can choose pages for which, with intervals over problems.
#pragma once
#include <Eigen/Core>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "calib/bootstrap.h"
#include "calib/correlation.h"
#include "calib/drift.h"
#include "calib/predicted_kl.h"
#include "calib/recall.h"
#include "calib/stale.h"
#include "core/model_info.h"
#include "trace/trace.h"

namespace deltacal::calib {

// Means over samples of a figure for each pair of layers, or for each layer; NaN where undefined or, for low
// and high, where there is no interval.
struct MatrixEstimate {
  Eigen::MatrixXd mean, low, high;  // [n_layers target, n_layers source]
};
struct RowEstimate {
  Eigen::VectorXd mean, low, high;  // [n_layers]
};

struct RecallAnalysis {
  Budget budget;
  int n_samples = 0, n_problems = 0;  // those with an active step
  int n_steps = 0;                    // active steps of all samples
  MatrixEstimate recall;
  Eigen::MatrixXd worst_step;                    // the least of any active step
  Eigen::MatrixXd p05;                           // 5% quantile over all active steps
  Eigen::MatrixXd over_oracle;                   // mean recall over mean oracle recall of the target
  std::optional<Eigen::MatrixXd> worst_kv_head;  // least mean of a key/value head; empty without group mass
};

struct PredictedKlAnalysis {
  Budget budget;
  MatrixEstimate kl;  // nats a token
};

struct OracleAnalysis {
  int k_pages = 0;
  RowEstimate recall;
};

struct CorrelationAnalysis {
  Budget budget;
  MatrixEstimate cosine, pearson, jaccard;
};

struct StaleAnalysis {
  int lag = 0;  // steps
  Budget budget;
  int n_samples = 0;  // those with a pair of steps that far apart
  RowEstimate recall;
};

struct HalfLifeAnalysis {
  Budget budget;
  Eigen::VectorXd window_recall;  // [n_layers] of the last L pages alone
  std::vector<HalfLife> layers;   // [n_layers]
};

struct Analysis {
  ModelInfo model;
  std::string trace_path, trace_sha256;
  int n_samples = 0, n_problems = 0, n_steps = 0;  // all recorded
  Bootstrap bootstrap;
  std::string no_interval_reason;  // empty where there are intervals
  Grid grid;
  std::vector<RecallAnalysis> recall;             // [pairs]
  std::vector<OracleAnalysis> oracle;             // [n_k]
  std::vector<PredictedKlAnalysis> predicted_kl;  // [pairs]; empty unless every sample has it
  CorrelationAnalysis correlation;
  RowEstimate layer_drift, step_drift;
  std::vector<StaleAnalysis> stale;  // lags x pairs
  HalfLifeAnalysis half_life;
};

// Of correlation and half-life: K = 32, L = 4, or the pair of the grid nearest to it (first K, then L; the
// smaller of two equally near).
Budget reference_budget(const Grid&);

// All that is kept of one sample.
struct SampleAnalysis {
  SampleRecall recall;
  SampleCorrelation correlation;
  SampleDrift drift;
  SampleStale stale;
};

// Adds up one sample; blocks in ascending order of steps.
class SampleSums {
 public:
  SampleSums(const Grid&, int n_layers);
  void add(const StepMaps&, RecallHistogram&);
  SampleAnalysis finish(std::string id, std::string problem) const;

 private:
  RecallSums recall_;
  CorrelationSums correlation_;
  DriftSums drift_;
  StaleSums stale_;
};

// Samples to figures. `histogram` holds the recalls of all of them. Model and trace are left to the caller.
Analysis summarise(const std::vector<SampleAnalysis>&, const RecallHistogram&, const Grid&, const Bootstrap&);

// Called with the number of recorded steps just done.
using StepsDone = std::function<void(double)>;

// Reads the trace once, in blocks. bad_input for a trace without recorded steps.
Analysis analyze(const trace::Reader&, const Grid&, const Bootstrap&, const StepsDone& = {});

}  // namespace deltacal::calib
