// The artefacts as typed data, checked field by field. Layer indices, matrix sizes and references between
// fields are safe to use without another look. N = n_layers. Missing numbers are NaN.
#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "reports/document.h"
#include "reports/model.h"

namespace deltacal::reports {

struct Head {
  std::string file, format, command, tool_version, seed, created;
  std::string device;  // that the model ran on, with the dtype; "" where not told
};

struct Model {
  std::string name, architecture, sha256;
  int n_layers = 0, n_heads = 0, n_kv_heads = 0, head_dim = 0;
};

struct Source {  // a file that an artefact was made from
  std::string path, sha256;
};

struct IntervalMethod {
  std::string method, seed, reason;  // reason: why there are no intervals; "" if there are
  int resamples = 0;
  double confidence = missing;
};

struct Counts {
  int samples = 0, problems = 0, steps = 0;  // steps: 0 where not told
};

using Estimates = std::vector<Estimate>;                    // [N]
using EstimateMatrix = std::vector<std::vector<Estimate>>;  // [N target][N source]

struct Analysis {
  struct Recall {
    int k_pages, l_pages;
    Counts counts;
    EstimateMatrix recall;
  };
  struct Oracle {
    int k_pages;
    Estimates recall;
  };
  struct Correlation {
    int k_pages, l_pages;
    EstimateMatrix cosine, pearson, jaccard;
  };
  struct Stale {
    int lag, k_pages, l_pages, n_samples;
    Estimates recall;
  };
  struct HalfLife {
    struct Layer {
      int lag = -1, greater_than = -1;  // -1: null
    };
    int k_pages, l_pages;
    std::vector<double> window_recall;  // [N]
    std::vector<Layer> layers;          // [N]
  };
  Head head;
  Model model;
  Source trace;
  Counts counts;
  IntervalMethod interval;
  std::vector<Recall> recall;
  std::vector<Oracle> oracle;
  std::optional<Correlation> correlation;
  Estimates layer_drift, step_drift;
  std::vector<Stale> stale;
  std::optional<HalfLife> half_life;
};

struct Config {
  struct Alternative {
    std::string schedule, method;
    std::vector<int> delta_layers;
    double attended_ratio = missing, loss = missing, mean_recall = missing;
  };
  Head head;
  Model model;
  int page_size = 16, refresh_interval = 1;
  std::string refresh;  // by a signal, in words; empty: by the interval
  std::string score;    // what pages are ranked by, in words; empty: as DELTA does
  Strip strip;
  std::vector<std::pair<std::string, double>> attended_ratio;  // lengths -> ratio
  std::vector<std::pair<int, Estimate>> recall;                // layer -> expected recall
  std::optional<Estimate> nll_gap;
  Source trace;
  Counts counts;
  std::string method, objective, budget, seed;
  std::string order;      // form of the predicted KL that ordered the alternatives; empty: not told
  bool reranked = false;  // by runs on development samples
  std::vector<Alternative> alternatives;
};

struct Validation {
  struct Scores {   // over one set of steps
    Counts counts;  // samples 0 where not told
    double nll = missing, top1 = missing;
    Estimate nll_gap, kl;
    double kl_median = missing, kl_p99 = missing;
  };
  struct Bin {
    int from, to, n_steps;
    double nll, top1;
    Estimate nll_gap, kl;
  };
  struct Sample {
    std::string id, problem;  // problem: "" where not told
    int active_steps;
    double nll_full, nll;  // nats/token over the active steps
  };
  struct Policy {
    std::string name;
    double attended_ratio;
    Scores active;
    std::optional<Scores> all;
    std::vector<Bin> bins;
    std::vector<Sample> samples;
    int samples_without_active = 0;
    std::vector<std::pair<int, Estimate>> recall;  // layer -> recall on the run's own hidden states
    std::optional<Estimate> vs_delta;
  };
  struct Threshold {
    std::string name;
    double limit, value, bound;  // bound: what is held against the limit, the value or an end of its interval
    std::optional<bool> met;
  };
  Head head;
  Model model;
  Source config, data;
  std::string schedule;
  int max_tokens = 0, pack = 0;  // 0: not limited, not packed
  IntervalMethod interval;
  std::vector<Policy> policies;
  std::optional<bool> passed;
  std::vector<Threshold> thresholds;
};

struct Comparison {  // compare.json
  struct Method {
    std::string name, schedule;
    double attended_ratio = missing, predicted_kl = missing, recall = missing, seconds = missing;
    Estimate nll_gap, kl, vs_winner;  // vs_winner: without a value for the winner
    std::vector<int> delta_layers;
  };
  struct Surrogate {
    std::string name;
    Estimate spearman;
    double kendall = missing;
    int n_schedules = 0;
  };
  struct Prediction {
    struct Residual {
      int delta_layers, n_schedules;
      double mean, least, largest;  // of log(measured) - log(scale * predicted)
    };
    Estimate spearman, scale;
    int n_schedules = 0;
    std::string warning;  // "" where the prediction orders schedules well enough
    std::vector<Residual> residuals;
  };
  struct Budget {
    double budget = missing, attended_ratio = missing, predicted_kl = missing, recall = missing;
    std::string schedule;
    Estimate nll_gap, kl;  // without a value where not run
  };
  Head head;
  Model model;
  Source trace, data;
  int max_tokens = 0, pack = 0;  // 0: not limited, not packed
  int context = 0;               // the budget is met on steps 0..context-1; 0: on the samples' own lengths
  std::string budget, objective, winner;
  Counts counts;
  IntervalMethod interval;
  std::vector<Method> methods;
  std::vector<Surrogate> surrogates;
  std::optional<Prediction> prediction;
  std::vector<double>
      stability;  // [N] share of the resamples in which the layer is a Δ-layer; empty: not told
  int stability_resamples = 0;
  std::string stability_reason;  // why it is empty
  std::vector<Budget> budgets;
};

struct Inputs;  // report.h

// bad_input names two files whose models differ.
void require_one_model(const Inputs&);

Head parse_head(const Field&);
Model parse_model(const Field&);  // of the field `model`
Analysis parse_analysis(const Field&);
Config parse_config(const Field&);
Validation parse_validation(const Field&);
Comparison parse_comparison(const Field&);

}  // namespace deltacal::reports
