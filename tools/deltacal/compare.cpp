#include "compare.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <set>

#include "calib/baselines/random_draws.h"
#include "calib/compare_json.h"
#include "calib/compare_markdown.h"
#include "calib/joint.h"
#include "calib/search.h"
#include "calib/stability.h"
#include "core/error.h"
#include "core/hash.h"
#include "development.h"
#include "methods.h"
#include "refresh.h"

namespace deltacal::tools {
namespace {

constexpr double pareto_ratios[] = {1.5, 2, 2.5, 3, 4, 5, 6};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// A schedule of the table on its way: the figures known before anything runs.
struct Row {
  calib::MeasuredSchedule measured;
  config::Schedule schedule;
};

class Comparison {
 public:
  Comparison(const CalibrateOptions& o, const trace::Reader& trace, const Problem& problem,
             Development& development)
      : o_(o), trace_(trace), p_(problem), development_(development) {
    if (!p_.kl.empty()) joint_.emplace(trace, p_.grid);
  }

  calib::MethodComparison run() {
    for (const std::string& method : o_.methods) {
      add_method(method);
      if (methods_.empty()) throw no_schedule(o_, p_);  // the first is what the others are compared with
    }
    add_candidates();
    for (const double ratio : pareto_ratios) add_budget(ratio);
    measure();
    calib::Measurements m;
    m.problems = development_.problems();
    m.winner = winner();
    m.surrogates = {"predicted_kl", "predicted_kl_joint_layers", "predicted_kl_joint_steps", "recall_lost",
                    "mean_recall_lost"};
    for (Row& row : methods_) m.methods.push_back(std::move(row.measured));
    for (Row& row : others_) m.others.push_back(std::move(row.measured));
    if (!draws_.empty()) {
      std::vector<calib::MeasuredSchedule> draws;
      for (Row& row : draws_) draws.push_back(std::move(row.measured));
      m.methods.push_back(calib::mean_of_schedules("random", draws));
      m.others.insert(m.others.end(), draws.begin(), draws.end());
    }
    for (size_t i = 0; i < budgets_.size(); ++i)
      m.budgets.push_back({ratios_[i], std::move(budgets_[i].measured)});
    calib::MethodComparison out = calib::compare_methods(m, {o_.resamples, o_.made.seed, 0.95});
    out.stability = stability();
    return out;
  }

 private:
  const std::string& winner() const { return o_.methods.front(); }

  Row row_of(const std::string& method, const config::Schedule& schedule, double seconds) {
    Row row{calib::measured_schedule(method, schedule), schedule};
    calib::MeasuredSchedule& m = row.measured;
    m.attended_ratio = p_.ratio_of(calib::schedule::attended_by(p_.steps, schedule));
    const calib::JointKl kl = joint_ ? joint_->predict(schedule) : calib::JointKl{NAN, NAN, NAN};
    m.predicted_kl = p_.objective == "kl" ? calib::schedule::loss_of(p_.edges, schedule) : kl.additive;
    m.recall = mean_recall_of(p_, schedule);
    m.surrogates = {m.predicted_kl, kl.layers, kl.steps, calib::schedule::loss_of(p_.recall_edges, schedule),
                    1 - m.recall};
    m.seconds = seconds;
    return row;
  }

  void add_method(const std::string& method) {
    const auto start = std::chrono::steady_clock::now();
    if (method == "random") {
      const calib::BaselineOptions options{p_.full_layers(), usual_l_pages(p_), o_.made.seed};
      for (const auto& draw : calib::baselines::random_draws(p_.edges, p_.steps, p_.costs.budget,
                                                             calib::baselines::usual_draws, options))
        draws_.push_back(row_of(fmt::format("random {}", draws_.size()), draw.schedule, 0));
    } else if (method == "greedy-nll") {
      add_greedy();
    } else if (method == "dp-refresh") {
      if (p_.objective == "kl")
        for (const Ranking& ranking : recorded_refreshes(trace_, p_.page_score)) add_refresh(ranking);
    } else if (const auto found = choose(method, o_, p_, p_.costs.budget)) {
      methods_.push_back(row_of(method, found->schedule, seconds_since(start)));
    } else {
      fmt::print(stderr, "{}: no schedule of this method meets the budget\n", method);
    }
  }

  // Lists that serve several steps. They count in no rank correlation: of the surrogates, the predicted KL alone is
  // known of them.
  void add_refresh(const Ranking& ranking) {
    const auto start = std::chrono::steady_clock::now();
    const std::string method = ranking.refresh_below
                                   ? fmt::format("dp-refresh-cosine-{}", *ranking.refresh_below)
                                   : fmt::format("dp-refresh-{}", ranking.refresh_interval);
    if (const std::string reason = why_not(o_, ranking); !reason.empty()) {
      fmt::print(stderr, "{} is left out: {}\n", method, reason);
      return;
    }
    const Problem p = with_refresh(p_, o_, trace_, ranking);
    const auto found = choose("dp", o_, p, p.costs.budget);
    if (!found) {
      fmt::print(stderr, "{}: no schedule of this method meets the budget\n", method);
      return;
    }
    Row row{calib::measured_schedule(method, found->schedule), found->schedule};
    row.measured.attended_ratio = p.ratio_of(found->attended);
    row.measured.predicted_kl = found->loss;
    row.measured.surrogates = {NAN, NAN, NAN, NAN, NAN};
    row.measured.seconds = seconds_since(start);
    methods_.push_back(std::move(row));
  }

  // The search works to the default method's number of Δ-layers.
  void add_greedy() {
    const double before = development_.evaluations().seconds_asked();  // also of runs that the file had
    const calib::Greedy found = development_.search_greedily(p_, methods_.at(0).schedule);
    if (found.schedule)
      methods_.push_back(
          row_of("greedy-nll", *found.schedule, development_.evaluations().seconds_asked() - before));
    else
      fmt::print(stderr, "greedy-nll: no schedule of this method meets the budget\n");
  }

  // The solver's other candidates, with one k for all as well: schedules for the rank correlations.
  void add_candidates() {
    for (const auto* list : {&methods_, &draws_})
      for (const Row& row : *list) known_.insert(key_of(row.schedule));
    calib::schedule::Options options = p_.solver;
    for (const bool one_k : {false, true}) {
      options.budgets = one_k ? calib::schedule::Budgets::one : p_.solver.budgets;
      const auto found = calib::schedule::k_best(p_.edges, p_.layers, p_.costs.budget, options);
      for (size_t i = 0; i < found.size(); ++i)
        if (known_.insert(key_of(found[i].schedule)).second)
          others_.push_back(row_of(fmt::format("{} candidate {}", one_k ? "dp, one k," : "dp", i + 1),
                                   found[i].schedule, 0));
    }
  }

  void add_budget(double ratio) {
    const auto start = std::chrono::steady_clock::now();
    if (const auto found = choose(winner(), o_, p_, p_.budget_of(ratio))) {
      ratios_.push_back(ratio);
      budgets_.push_back(
          row_of(fmt::format("{} at {}", winner(), ratio), found->schedule, seconds_since(start)));
    }
  }

  // All rows in one call: runs share their beginnings.
  void measure() {
    std::vector<config::Schedule> schedules;
    std::vector<Row*> rows;
    for (auto* list : {&methods_, &draws_, &others_, &budgets_})
      for (Row& row : *list) rows.push_back(&row), schedules.push_back(row.schedule);
    const auto losses =
        development_.evaluations().measure(schedules, 0, static_cast<int>(development_.samples().size()));
    for (size_t i = 0; i < rows.size(); ++i) {
      for (const SampleLoss& loss : losses[i]) {
        rows[i]->measured.nll_gap.push_back(loss.nll_gap);
        rows[i]->measured.kl.push_back(loss.kl);
      }
      rows[i]->measured.attended_ratio_measured = ratio_of(losses[i]);
    }
  }

  // Of the runs themselves. NaN where one was made before that was kept.
  double ratio_of(const std::vector<SampleLoss>& losses) const {
    double positions = 0, attended = 0;
    for (size_t i = 0; i < losses.size(); ++i) {
      const auto& sample = development_.samples()[i];
      const double n = double(sample.ids.size()), first = double(sample.n_prompt_tokens);
      const double of_sample = n * (n + 1) / 2 - first * (first + 1) / 2;  // of one layer, sum of t + 1
      positions += of_sample;
      attended += of_sample * losses[i].attended_share;
    }
    return positions / attended;
  }

  // Of the solver's choice, by the sum over edges, over resamples of the calibration problems.
  calib::Stability stability() const {
    if (winner() != "dp" || o_.aggregate != "mean") {
      calib::Stability none;
      none.reason = "the stability is that of the method dp with the aggregate mean";
      return none;
    }
    const size_t n_edges = p_.edges.loss.size(), n_samples = p_.recalls.size();
    Eigen::MatrixXd loss{Eigen::Index(n_samples), Eigen::Index(n_edges)};
    std::vector<std::string> problems;
    for (size_t s = 0; s < n_samples; ++s) {
      problems.push_back(p_.recalls[s].problem);
      const std::vector<double> of_sample = sample_loss(p_, s);
      loss.row(Eigen::Index(s)) =
          Eigen::Map<const Eigen::RowVectorXd>(of_sample.data(), Eigen::Index(n_edges));
    }
    calib::schedule::Options options = p_.solver;
    options.candidates = 1;
    calib::EdgeCosts edges = p_.edges;
    const auto solve = [&](std::span<const double> values) -> std::optional<config::Schedule> {
      edges.loss.assign(values.begin(), values.end());
      const auto found = calib::schedule::k_best(edges, p_.layers, p_.costs.budget, options);
      if (found.empty()) return std::nullopt;
      return found[0].schedule;
    };
    return calib::stability(loss, problems, {calib::stability_resamples, o_.made.seed, 0.95}, solve);
  }

  const CalibrateOptions& o_;
  const trace::Reader& trace_;
  const Problem& p_;
  Development& development_;
  std::optional<calib::JointPredictor> joint_;
  std::vector<Row> methods_, draws_, others_, budgets_;
  std::vector<double> ratios_;   // of budgets_
  std::set<std::string> known_;  // schedules: none counts twice in a rank correlation
};

// The budget is met on the calibration samples' lengths: methods are at equal cost on the development samples
// only if those are about as long.
void warn_of_other_lengths(const Problem& p, const std::vector<text::TokenizedSample>& samples) {
  std::vector<config::StepRange> ranges;
  for (const auto& s : samples) ranges.push_back({s.n_prompt_tokens, static_cast<int>(s.ids.size())});
  const calib::StepCosts costs(ranges);
  const double theirs = double(costs.full()) / double(costs.n_steps()),
               ours = double(p.steps.full()) / double(p.steps.n_steps());
  if (std::abs(theirs / ours - 1) > 0.1)
    fmt::print(stderr,
               "warning: a step of the development samples sees {:.0f} positions in the mean, one of the "
               "calibration samples "
               "{:.0f}: the methods are at equal cost on the latter\n",
               theirs, ours);
}

}  // namespace

std::string markdown_beside(const CalibrateOptions& o) {
  const std::string markdown = std::filesystem::path(o.out).replace_extension(".md").string();
  if (markdown == o.out)
    throw bad_input("--out {}: the Markdown goes beside the JSON under this name: give NAME.json", o.out);
  require_free_output(o.out, o.existing());
  require_free_output(markdown, o.existing());
  return markdown;
}

int compare(const CalibrateOptions& o, const trace::Reader& trace) {
  const std::string markdown = markdown_beside(o);
  for (size_t i = 0; i < o.methods.size(); ++i)
    if (std::find(o.methods.begin(), o.methods.begin() + i, o.methods[i]) != o.methods.begin() + i)
      throw bad_input("--methods: {} is there twice", o.methods[i]);
  if (o.methods.empty() || o.methods[0] == "random" || o.methods[0] == "greedy-nll" ||
      o.methods[0] == "dp-refresh")
    throw bad_input(
        "--methods: the first is what the others are compared with: one of dp, recall-dp, cosine-peaks, "
        "kascade, tidal, uniform");
  const Problem problem = problem_of(o, trace);
  if (problem.goal.kind != calib::Goal::Kind::attended)
    throw bad_input("--compare compares methods at equal attended tokens: give --budget attended=R");
  Development development(o, trace);
  warn_of_other_lengths(problem, development.samples());
  Comparison comparison(o, trace, problem, development);
  calib::MethodComparison table = comparison.run();
  table.model = development.measured_model(trace);
  table.trace_path = trace.path();
  table.trace_sha256 = sha256_of_file(trace.path());
  table.data_path = o.data;
  table.data_sha256 = development.inputs().data.sha256;
  table.max_tokens = o.max_tokens;
  table.pack = o.pack;
  table.budget = o.budget;
  table.context = o.context;
  table.objective = problem.objective;
  write_file_atomically(o.out, calib::to_json(table, o.made).dump() + "\n", o.existing());
  write_file_atomically(markdown, calib::to_markdown(table), o.existing());
  fmt::print("{}\n{}, {}: {} schedules were run on samples that had not been before\n",
             calib::to_markdown(table), o.out, markdown, development.evaluations().n_run());
  return 0;
}

}  // namespace deltacal::tools
