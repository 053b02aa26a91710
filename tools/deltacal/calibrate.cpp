#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "calib/rerank.h"
#include "calib/search.h"
#include "compare.h"
#include "core/error.h"
#include "core/hash.h"
#include "development.h"
#include "methods.h"
#include "options.h"
#include "refresh.h"
#include "transfer.h"

namespace deltacal::tools {
namespace {

// The exact solver's candidates, best first.
std::vector<calib::Choice> candidates_of(const CalibrateOptions& o, const Problem& p) {
  const auto choices = solve(p, std::max(o.candidates, o.rerank));
  if (choices.empty()) throw no_schedule(o, p);
  const auto& layers = choices[0].schedule.layers;
  if (o.min_recall && std::none_of(layers.begin(), layers.end(),
                                   [](const auto& l) { return l.role == config::Role::sparse; }))
    fmt::print(stderr,
               "warning: no sparse layer keeps the target with its confidence bound, so all layers are full "
               "(a bound of "
               "recall needs at least 4 problems with active steps)\n");
  return choices;
}

calib::Choice greedy(const CalibrateOptions& o, const Problem& p, Development& development) {
  const auto dp = choose("dp", o, p, p.costs.budget);
  if (!dp) throw no_schedule(o, p);
  const auto found = development.search_greedily(p, dp->schedule);
  if (!found.schedule) throw no_schedule(o, p);
  config::Schedule schedule = *found.schedule;
  schedule.page_score = p.page_score;
  return {"greedy-nll", schedule, calib::schedule::loss_of(p.edges, schedule), found.attended};
}

nlohmann::ordered_json number(const std::optional<double>& x) {
  return x ? nlohmann::ordered_json(*x) : nlohmann::ordered_json();
}

nlohmann::ordered_json json_gap(const calib::Estimate& gap) {
  return {{"mean", gap.mean}, {"low", number(gap.low)}, {"high", number(gap.high)}};
}

// The candidates by what they really lose on the development samples, the winner first and improved by a
// local search.
struct Reranked {
  std::vector<calib::Choice> choices;
  calib::Estimate nll_gap;
  nlohmann::ordered_json log;
};
Reranked rerank(const CalibrateOptions& o, const Problem& p, std::vector<calib::Choice> candidates,
                Development& development) {
  if (static_cast<int>(candidates.size()) > o.rerank) candidates.resize(o.rerank);
  std::vector<config::Schedule> schedules;
  for (const auto& c : candidates) schedules.push_back(c.schedule);
  calib::RerankOptions options;
  options.problems = development.problems();
  options.bootstrap = {o.resamples, o.made.seed, 0.95};
  options.rules.full_layers = p.solver.full_layers.value_or(0);
  options.rules.k_pages = p.grid.k_pages;
  options.rules.budget = p.costs.budget;
  options.rules.attended = [&](const config::Schedule& s) {
    return calib::schedule::attended_by(p.steps, s);
  };
  options.rules.solve_for = [&](std::span<const int> deltas) {
    return calib::solve_with_deltas(p.edges, p.layers, p.costs.budget, deltas, p.solver);
  };
  options.predicted = [&](const config::Schedule& s) { return calib::schedule::loss_of(p.edges, s); };
  if (o.k_per != "layer") {
    options.max_rounds = 0;
    options.halving_alone = fmt::format(
        "no local search: it moves pages between layers, which share a k under --k-per {}", o.k_per);
  }
  const calib::Reranked found = calib::rerank(schedules, development.gaps(), options);

  Reranked out;
  out.nll_gap = calib::mean_with_interval(found.nll_gap, options.problems, options.bootstrap);
  out.choices.push_back({"dp, reranked", found.schedule, calib::schedule::loss_of(p.edges, found.schedule),
                         calib::schedule::attended_by(p.steps, found.schedule)});
  for (auto& c : candidates)
    if (!(c.schedule == found.schedule)) out.choices.push_back(std::move(c));
  // On the samples that it was chosen by, so it flatters: `validate` tells on others.
  out.log = {
      {"nll_gap", json_gap(out.nll_gap)},
      {"n_samples", options.problems.size()},
      {"n_evaluated", found.n_evaluated},
      {"seconds", found.seconds},
      {"stopped", found.stopped},
      {"rounds", nlohmann::ordered_json::array()}};
  for (const auto& round : found.rounds) {
    nlohmann::ordered_json tries = nlohmann::ordered_json::array();
    for (const auto& t : round.tries)
      tries.push_back({{"change", t.change},
                       {"schedule", config::describe(t.schedule)},
                       {"nll_gap", t.nll_gap},
                       {"kept", t.kept}});
    out.log["rounds"].push_back({{"stage", round.stage}, {"n_samples", round.n_samples}, {"tries", tries}});
  }
  return out;
}

calib::CalibrationRecord record_of(const CalibrateOptions& o, const Problem& p, const trace::Reader& trace) {
  calib::CalibrationRecord record;
  record.trace_path = o.trace;
  record.trace_sha256 = sha256_of_file(o.trace);
  for (int i = 0; i < trace.n_samples(); ++i) record.samples.push_back(to_record(trace.info(i)));
  record.objective = o.method == "recall-dp" ? "recall" : p.objective;
  record.objective_reason = o.method == "recall-dp" ? "the method's own" : p.objective_reason;
  record.aggregate = o.aggregate;
  record.order = p.joint ? calib::name_of(p.order) : "additive";
  record.budget = o.min_recall ? fmt::format("min-recall={}", *o.min_recall)
                  : o.max_kl   ? fmt::format("max-kl={}", *o.max_kl)
                               : o.budget;
  record.context = o.context;
  record.seed = o.made.seed;
  return record;
}

void print_summary(const CalibrateOptions& o, const Problem& p, const std::vector<calib::Choice>& choices) {
  const auto& best = choices[0];
  fmt::print("{}: {}\n", o.out, config::describe(best.schedule));
  fmt::print("attended-token ratio {:.2f} on {}, {} {:.4f}, objective {} ({})\n", p.ratio_of(best.attended),
             o.context ? fmt::format("steps 0..{}", o.context - 1)
             : best.schedule.refresh
                 ? "the calibration samples' own lengths, with the lists of full attention's queries"
                 : "the calibration samples' own lengths",
             p.objective == "kl" ? "predicted KL (nats a token)" : "summed recall loss", best.loss,
             p.objective, p.objective_reason);
}

std::string alternative_path(const CalibrateOptions& o, const std::string& method) {
  return (std::filesystem::path(o.alternatives_dir) / (method + ".json")).string();
}

// Equal cost: what the chosen schedule attends to, or less.
void write_alternatives(const CalibrateOptions& o, const Problem& p, long long attended, const auto& write) {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::create_directories(o.alternatives_dir, error);
  if (error) throw failure("cannot make the folder {}: {}", o.alternatives_dir, error.message());
  for (const std::string& method : trace_methods()) {
    if (o.score_page != "sum" && needs_recall(method)) {
      fmt::print(stderr, "{}: it chooses by recall, which is not known under --score-page {}\n", method,
                 o.score_page);
      continue;
    }
    const auto found = choose(method, o, p, attended);
    if (!found) {
      fmt::print(stderr, "{}: no schedule of this method meets the budget\n", method);
      continue;
    }
    write({*found}, alternative_path(o, method), Existing::replace);
  }
}

// An alternative replaces what was there, so the output must not be one of them.
void check_alternatives(const CalibrateOptions& o) {
  namespace fs = std::filesystem;
  if (o.alternatives_dir.empty()) return;
  for (const std::string& method : trace_methods()) {
    const fs::path path = alternative_path(o, method);
    if (fs::weakly_canonical(path) == fs::weakly_canonical(o.out))
      throw bad_input(
          "--out {}: --alternatives-dir {} has a schedule of its own of this name: give another --out", o.out,
          o.alternatives_dir);
  }
}

// Recall was recorded of the lists that DELTA's score makes.
void check_score(const CalibrateOptions& o) {
  if (page_score_of(o) == PageScore::sum) return;
  const std::string why = "recall is not known under --score-page " + o.score_page;
  if (needs_recall(o.method)) throw bad_input("--method {}: {}", o.method, why);
  if (o.objective == "recall") throw bad_input("--objective recall: {}", why);
  if (o.min_recall) throw bad_input("--min-recall: {}", why);
  if (o.compare || o.transfer)
    throw bad_input("--compare and --transfer measure under DELTA's score: --score-page is for a config");
}

void check(const CalibrateOptions& o) {
  check_score(o);
  const bool target = o.min_recall || o.max_kl;
  const char* name = o.min_recall ? "--min-recall" : "--max-kl";
  if (o.budget.empty() && !target)
    throw bad_input("calibrate: give --budget attended=R (or bytes=N, ms=T), --min-recall R or --max-kl X");
  if (target && o.method != "dp")
    throw bad_input("{} needs --method dp: {} works to a budget", name, o.method);
  if (target && o.k_per == "schedule")
    throw bad_input("--k-per schedule works to a budget, not with {}", name);
  if (target && o.rerank > 0) throw bad_input("--rerank compares schedules of one budget, not with {}", name);
  if (o.order != "additive" && o.method != "dp" && o.method != "greedy-nll")
    throw bad_input("--order orders the candidates of --method dp, not of {}", o.method);
  if (o.rerank > 0 && o.method != "dp")
    throw bad_input("--rerank needs --method dp: {} has one schedule", o.method);
  if (o.compare && (target || o.method != "dp" || !o.alternatives_dir.empty()))
    throw bad_input(
        "--compare has --methods and a --budget: --method, --alternatives-dir, --min-recall and --max-kl are "
        "for a config");
  if (o.transfer && (target || o.method != "dp" || !o.alternatives_dir.empty()))
    throw bad_input(
        "--transfer measures the method dp at a --budget: --method, --alternatives-dir, --min-recall and "
        "--max-kl are for a config");
  const bool runs = runs_schedules(o);
  if (!runs && (!o.model.empty() || !o.data.empty()))
    throw bad_input(
        "calibrate: --model and --data are for --compare, --transfer, --rerank and --method greedy-nll");
  if (runs && (o.model.empty() || o.data.empty()))
    throw bad_input(
        "calibrate: schedules are measured on development traces: give --model M --data dev.jsonl");
  if (runs) check_evaluations(o);
  check_alternatives(o);
}

}  // namespace

int calibrate(const CalibrateOptions& o) {
  check(o);
  check_refresh(o);
  require_free_output(o.out, o.existing());
  const trace::Reader trace(o.trace);
  if (o.compare) return compare(o, trace);
  if (o.transfer) return transfer(o, trace);

  const Problem p = choose_refresh(problem_of(o, trace), o, trace);
  if (!p.in_positions() && (o.method != "dp" || o.rerank > 0 || !o.alternatives_dir.empty()) &&
      !o.budget.empty())
    throw bad_input("--budget {}: times are for --method dp alone, without --rerank and --alternatives-dir",
                    o.budget);
  std::unique_ptr<Development> development;
  std::vector<calib::Choice> choices;
  Reranked reranked;
  if (o.method == "dp") {
    choices = candidates_of(o, p);
    if (o.rerank > 0) {
      development = std::make_unique<Development>(o, trace);
      reranked = rerank(o, p, std::move(choices), *development);
      choices = reranked.choices;
    }
  } else if (o.method == "greedy-nll") {
    development = std::make_unique<Development>(o, trace);
    choices = {greedy(o, p, *development)};
  } else {
    const auto found = choose(o.method, o, p, p.costs.budget);
    if (!found) throw no_schedule(o, p);
    choices = {*found};
  }
  const auto record = record_of(o, p, trace);
  const auto write = [&](const std::vector<calib::Choice>& written, const std::string& path,
                         Existing existing) {
    config::Config config = calib::to_config(written, trace.model(), p.edges, p.steps, record);
    if (path == o.out && development) config.provenance["development"] = development->provenance(o);
    if (path == o.out && o.rerank > 0) config.provenance["rerank"] = reranked.log;
    config::write(config, path, existing, o.made);
  };
  if (!o.alternatives_dir.empty()) write_alternatives(o, p, choices[0].attended, write);
  write(choices, o.out, o.existing());
  print_summary(o, p, choices);
  return 0;
}

}  // namespace deltacal::tools
