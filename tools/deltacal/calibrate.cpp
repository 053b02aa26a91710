#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "calib/baselines.h"
#include "calib/budget.h"
#include "calib/drift.h"
#include "calib/edges.h"
#include "calib/schedule/schedule.h"
#include "calib/to_config.h"
#include "core/error.h"
#include "core/hash.h"
#include "options.h"
#include "trace/trace.h"

namespace deltacal::tools {
namespace {

const std::vector<calib::Baseline> baselines{calib::Baseline::cosine_peaks, calib::Baseline::uniform,
                                             calib::Baseline::random};

// Everything that the methods choose from.
struct Problem {
  calib::EdgeCosts edges;
  calib::StepCosts steps;
  calib::LayerCosts layers;
  std::vector<double> drift;  // [n_layers]; empty unless a baseline is asked for
  calib::Goal goal;
  long long budget = 0;  // positions; for an attended goal
  std::optional<int> full_layers;
  int n_layers = 0;
};

std::optional<int> parse_full_layers(const std::string& text, int n_layers) {
  if (text == "auto") return std::nullopt;
  int n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || end != text.data() + text.size() || n < 0 || n >= n_layers)
    throw bad_input("--full-layers {}: give a number from 0 to {}, or auto", text, n_layers - 1);
  return n;
}

// The steps that the budget is met on.
std::vector<config::StepRange> ranges_of(const trace::Reader& trace, int context) {
  if (context > trace.model().max_context)
    throw bad_input("--context {}: the model's context is {}", context, trace.model().max_context);
  int measured = 0;  // positions that were recorded end here
  for (int i = 0; i < trace.n_samples(); ++i) measured = std::max(measured, trace.info(i).n_tokens);
  if (context > measured)
    fmt::print(stderr,
               "warning: --context {} is longer than any sample of the trace ({} tokens): what is lost "
               "beyond that was not measured\n",
               context, measured);
  if (context > 0) return {{0, context}};
  std::vector<config::StepRange> ranges;
  for (int i = 0; i < trace.n_samples(); ++i)
    ranges.push_back({trace.info(i).n_prompt_tokens, trace.info(i).n_tokens});
  return ranges;
}

Problem problem_of(const CalibrateOptions& o, const trace::Reader& trace, const calib::Grid& grid) {
  const int n_layers = trace.model().n_layers;
  const calib::Bootstrap bootstrap{o.resamples, o.made.seed, 0.95};
  Problem p{calib::recall_costs(grid, calib::recalls(trace, grid), bootstrap),
            calib::StepCosts(ranges_of(trace, o.context)),
            {},
            {},
            o.min_recall ? calib::min_recall_goal(*o.min_recall) : calib::parse_budget(o.budget),
            0,
            parse_full_layers(o.full_layers, n_layers),
            n_layers};
  p.layers = calib::layer_costs(p.steps, grid.k_pages);
  if (o.method == "cosine-peaks" || !o.alternatives_dir.empty()) {
    const Eigen::VectorXd drift = calib::mean_layer_drift(trace);
    p.drift.assign(drift.data(), drift.data() + drift.size());
  }
  if (p.goal.kind == calib::Goal::Kind::bytes || p.goal.kind == calib::Goal::Kind::ms)
    throw bad_input("--budget {}: this version works to attended=R alone", o.budget);
  if (p.goal.kind == calib::Goal::Kind::attended)
    p.budget = calib::attended_budget(p.layers, n_layers, p.goal.value);
  return p;
}

double ratio_of(const Problem& p, long long attended) {
  return double(p.layers.full) * p.n_layers / double(attended);
}

Error no_schedule(const CalibrateOptions& o, const Problem& p, const calib::schedule::Options& options) {
  const auto nearest = calib::schedule::cheapest(p.edges, p.layers, options).value();
  return bad_input(
      "no schedule meets --budget {} on these lengths: the nearest has an attended-token ratio of {:.3f} "
      "({}). Ask for "
      "less, allow smaller --k-pages, fewer --full-layers, or calibrate on longer traces",
      o.budget, ratio_of(p, nearest.cost), config::describe(nearest.schedule));
}

// The exact solver's candidates, best first.
std::vector<calib::Choice> solve(const CalibrateOptions& o, const Problem& p) {
  using calib::schedule::Budgets;
  const calib::schedule::Options options{p.full_layers, o.uniform_k ? Budgets::one : Budgets::per_layer,
                                         o.candidates};
  const auto found = p.goal.kind == calib::Goal::Kind::min_recall
                         ? calib::schedule::cheapest_with_recall(p.edges, p.layers, p.goal.value, options)
                         : calib::schedule::k_best(p.edges, p.layers, p.budget, options);
  if (found.empty()) throw no_schedule(o, p, options);
  const auto& layers = found[0].schedule.layers;
  if (std::none_of(layers.begin(), layers.end(),
                   [](const auto& l) { return l.role == config::Role::sparse; }))
    fmt::print(stderr,
               "warning: no sparse layer keeps the target with its confidence bound, so all layers are full "
               "(a bound needs at "
               "least 4 problems with active steps)\n");
  std::vector<calib::Choice> choices;
  for (const auto& c : found) choices.push_back({"dp", c.schedule, c.loss, c.cost});
  return choices;
}

std::optional<calib::Choice> baseline_of(const CalibrateOptions& o, const Problem& p, calib::Baseline method,
                                         long long budget) {
  // Those that choose L themselves have none to choose it by: the grid's value nearest to the paper's window.
  const int l = p.edges.l_pages[std::max(0, p.edges.l_floor(4))];
  const auto found =
      calib::baseline(method, p.edges, p.steps, budget, p.drift, {p.full_layers.value_or(2), l, o.made.seed});
  if (!found) return std::nullopt;
  return calib::Choice{calib::name_of(method), found->schedule, found->loss, found->attended};
}

calib::Baseline baseline_named(const std::string& name) {
  for (const auto b : baselines)
    if (calib::name_of(b) == name) return b;
  throw bad_input("--method {}: unknown", name);
}

calib::CalibrationRecord record_of(const CalibrateOptions& o, const trace::Reader& trace) {
  calib::CalibrationRecord record;
  record.trace_path = o.trace;
  record.trace_sha256 = sha256_of_file(o.trace);
  for (int i = 0; i < trace.n_samples(); ++i) {
    const auto& s = trace.info(i);
    record.samples.push_back({s.id, s.task, s.problem, s.sha256});
  }
  record.objective = o.objective;
  record.objective_reason = "the trace holds no sensitivities (predicted KL): recall is what it has";
  record.budget = o.min_recall ? fmt::format("min-recall={}", *o.min_recall) : o.budget;
  record.context = o.context;
  record.seed = o.made.seed;
  return record;
}

void print_summary(const CalibrateOptions& o, const Problem& p, const std::vector<calib::Choice>& choices) {
  const auto& best = choices[0];
  fmt::print("{}: {}\n", o.out, config::describe(best.schedule));
  fmt::print("attended-token ratio {:.2f} on {}, summed recall loss {:.4f}, objective {}\n",
             ratio_of(p, best.attended),
             o.context ? fmt::format("steps 0..{}", o.context - 1) : "the calibration samples' own lengths",
             best.loss, o.objective);
}

}  // namespace

int calibrate(const CalibrateOptions& o) {
  namespace fs = std::filesystem;
  if (o.budget.empty() && !o.min_recall)
    throw bad_input("calibrate: give --budget attended=R or --min-recall R");
  if (o.min_recall && o.method != "dp")
    throw bad_input("--min-recall needs --method dp: {} works to a budget", o.method);
  if (o.uniform_k && o.min_recall) throw bad_input("--uniform-k works to a budget, not with --min-recall");
  const calib::Grid grid{o.k_pages, o.l_pages};
  calib::check(grid);
  require_free_output(o.out, o.existing());
  const trace::Reader trace(o.trace);
  const Problem p = problem_of(o, trace, grid);

  std::vector<calib::Choice> choices;
  if (o.method == "dp") {
    choices = solve(o, p);
  } else {
    const auto found = baseline_of(o, p, baseline_named(o.method), p.budget);
    if (!found) throw no_schedule(o, p, {p.full_layers, calib::schedule::Budgets::one, 1});
    choices = {*found};
  }
  const auto record = record_of(o, trace);
  const auto write = [&](const std::vector<calib::Choice>& written, const std::string& path,
                         Existing existing) {
    config::write(calib::to_config(written, trace.model(), p.edges, p.steps, record), path, existing, o.made);
  };

  if (!o.alternatives_dir.empty()) {
    std::error_code error;
    fs::create_directories(o.alternatives_dir, error);
    if (error) throw failure("cannot make the folder {}: {}", o.alternatives_dir, error.message());
    // Equal cost: what the chosen schedule attends to, or less.
    for (const auto method : baselines) {
      const auto found = baseline_of(o, p, method, choices[0].attended);
      if (!found) {
        fmt::print(stderr, "{}: no schedule of this method meets the budget\n", calib::name_of(method));
        continue;
      }
      write({*found}, (fs::path(o.alternatives_dir) / (calib::name_of(method) + ".json")).string(),
            Existing::replace);
    }
  }
  write(choices, o.out, o.existing());
  print_summary(o, p, choices);
  return 0;
}

}  // namespace deltacal::tools
