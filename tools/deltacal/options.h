// What each command takes: filled from the command line (cli.cpp), or by `run` for its stages.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/files.h"
#include "core/provenance.h"
#include "core/ranking.h"

namespace deltacal::tools {

struct Output {
  std::string out;
  bool force = false;
  Existing existing() const { return force ? Existing::replace : Existing::refuse; }
};

struct ModelOptions {
  std::string model;            // GGUF
  std::string device = "auto";  // auto, cpu, cuda
  std::string dtype = "auto";   // auto, f32, bf16
  int threads = 0;              // 0: all
};

struct DataOptions {
  std::string data;  // JSONL
  std::string chat = "auto";
  int limit = 0, max_tokens = 0, min_tokens = 0;  // 0: no limit
  int pack = 0;      // join lines of a task to samples of at least so many tokens; 0: do not
  std::string task;  // of all samples, instead of their own; empty: their own
};

struct SamplingArguments {
  int max_new_tokens = 1024;
  float temperature = 0, top_p = 1;
  int top_k = 0;
};

struct GridOptions {
  std::vector<int> k_pages{4, 8, 16, 32, 64, 128}, l_pages{1, 2, 4, 8};
};

struct InspectOptions {
  std::string file;
  bool json = false;
};

struct ProfileOptions : ModelOptions, DataOptions, Output, SamplingArguments, GridOptions {
  Provenance made;
  std::string mode = "replay";  // replay, decode
  std::string steps = "256";
  std::string maps = "none";  // none, heads
  std::string shard = "0/1";
  bool sensitivity = false;
  int draws = 0;  // 0: the trace's own next tokens
  std::vector<std::string> rankings;  // besides DELTA's: "max", "refresh:4", "cosine:0.8"
  int batch = 0;                      // samples decoded at once; 0: as suits the device
  std::string gpu_trace;              // as of generate
  bool resume = false, dry_run = false;
};

struct MergeOptions : Output {
  Provenance made;
  std::vector<std::string> inputs;
};

struct AnalyzeOptions : Output, GridOptions {
  Provenance made;
  std::string trace;
  int resamples = 2000;
};

struct CalibrateOptions : ModelOptions, DataOptions, Output, GridOptions {
  Provenance made;
  std::string trace;
  std::string budget;                        // "attended=3"
  std::optional<double> min_recall, max_kl;  // instead of a budget
  std::string cost;                          // cost table (JSON), for ms=
  std::string objective = "auto";            // auto, kl, recall
  std::string aggregate = "mean";            // mean, cvar:SHARE, max
  std::string method = "dp";
  std::string score_page = "sum";  // sum, max: what a page counts by
  std::string full_layers = "auto";
  int candidates = 8;
  std::string order = "additive";  // additive, layers, steps: the form of predicted KL that orders the candidates
  int context = 0;              // 0: the calibration samples' own lengths
  std::string refresh = "1";    // steps that a list serves, "cosine:0.8", or auto
  std::string k_per = "layer";  // layer, segment, schedule: what has a k of its own
  int resamples = 2000;
  std::string alternatives_dir;
  bool compare = false;
  std::vector<std::string> methods{"dp",    "recall-dp", "cosine-peaks", "kascade",   "tidal",
                                   "uniform", "random", "greedy-nll", "dp-refresh"};
  bool transfer = false;
  std::string curve = "both";  // of --transfer: both, none
  int curve_draws = 3;
  int rerank = 0;           // candidates measured on development traces; 0: the prediction decides
  int rerank_samples = 12;  // development traces used, at most; of each task with `transfer`
  std::string evaluations;  // file of finished runs; empty: OUT.evaluations.jsonl
};

inline PageScore page_score_of(const CalibrateOptions& o) {
  return o.score_page == "max" ? PageScore::max : PageScore::sum;
}

// Whether schedules are run on development traces, which needs a model and data.
inline bool runs_schedules(const CalibrateOptions& o) {
  return o.compare || o.transfer || o.rerank > 0 || o.method == "greedy-nll";
}

struct ValidateOptions : ModelOptions, DataOptions, Output {
  Provenance made;
  std::vector<std::string> configs;  // FILE, then NAME=FILE
  std::vector<std::string> policies{"full", "delta", "streaming"};
  std::optional<double> max_nll_gap, min_attended_ratio;
  bool allow_overlap = false, dry_run = false;
  std::string gpu_trace;  // as of generate
  int recall_steps = 64;
  int resamples = 2000;
};

struct GenerateOptions : ModelOptions, SamplingArguments {
  Provenance made;
  std::string config, chat = "auto", system;
  std::vector<std::string> prompts;  // then those of `data`
  std::string data;                  // prompts (JSONL); empty: none
  int limit = 0;                     // of `data`; 0: no limit
  int batch = 0;                     // decoded at once; 0: as suits the device
  std::string out;                   // JSONL; empty: standard output
  bool force = false;
  std::string gpu_trace;  // Chrome trace to write; empty: none
  std::string counters;   // required, auto (if they can be had); empty: none
  bool stats = false;
};

struct ReportOptions : Output {
  std::vector<std::string> files;
  std::string format = "html";
};

struct ExportOptions : Output {
  std::string config;
  std::vector<std::string> to;  // config::export_names()
  int context = 0;              // kascade: the length at which its share is the schedule's K; 0: not given
};

struct BenchOptions : ModelOptions, Output {
  Provenance made;
  std::string shape;  // instead of a model: random weights of a known shape
  std::string config, data, csv;
  std::string cost_table;                           // instead of the rates: the table that calibrate reads
  std::vector<int> k_pages{4, 8, 16, 32, 64, 128};  // of the cost table
  std::vector<int> contexts{2048, 8192};  // empty: those of the cost table, as far as the model goes
  std::vector<std::string> batches;       // "32x32768", on a CUDA device; empty: three usual ones
  int rows = 1;                           // of the cost table, on a CUDA device
  int prefill_tokens = 2048, decode_steps = 32;
  bool sensitivity = false;                    // also the sensitivity pass of the replay
  std::string markdown;                        // file for what is printed
  std::string gpu_trace, counters;             // as of generate
  int repeats = 0;                             // 0: 3, on a CUDA device 20
  std::vector<std::string> of_cpu, of_device;  // options given that mean something on one of the two alone
};

struct RunOptions : ModelOptions, DataOptions, GridOptions {
  Provenance made;
  std::string out_dir, steps = "256", budget = "attended=2";
  std::string objective = "kl";  // kl, recall
  std::optional<double> min_recall, max_nll_gap, min_attended_ratio;
  std::vector<std::string> baselines{"cosine-peaks"};
  double validation_share = 0.5;
  int resamples = 2000;
  bool force = false, dry_run = false;
};

// Each returns the exit status; errors are thrown.
int inspect(const InspectOptions&);
int profile(const ProfileOptions&);
int merge(const MergeOptions&);
int analyze(const AnalyzeOptions&);
int calibrate(const CalibrateOptions&);
int validate(const ValidateOptions&);
int generate(const GenerateOptions&);
int report(const ReportOptions&);
int export_config(const ExportOptions&);
int bench(const BenchOptions&);
int run(const RunOptions&);

}  // namespace deltacal::tools
