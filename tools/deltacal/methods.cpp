#include "methods.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "calib/baselines/kascade.h"
#include "calib/baselines/random_draws.h"
#include "calib/baselines/tidal.h"
#include "calib/drift.h"
#include "core/error.h"

namespace deltacal::tools {
namespace {


std::optional<int> parse_full_layers(const std::string& text, int n_layers) {
  if (text == "auto") return std::nullopt;
  int n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || end != text.data() + text.size() || n < 0 || n >= n_layers)
    throw bad_input("--full-layers {}: give a number from 0 to {}, or auto", text, n_layers - 1);
  return n;
}

// The steps that the budget is met on: those of the samples given.
std::vector<config::StepRange> ranges_of(const trace::Reader& trace, int context,
                                         const std::vector<int>& samples) {
  if (context > 0) return {{0, context}};
  std::vector<config::StepRange> ranges;
  for (const int i : samples) ranges.push_back({trace.info(i).n_prompt_tokens, trace.info(i).n_tokens});
  return ranges;
}

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
  std::vector<int> all(trace.n_samples());
  std::iota(all.begin(), all.end(), 0);
  return ranges_of(trace, context, all);
}

// kl or recall, and why.
std::pair<std::string, std::string> objective_of(const CalibrateOptions& o, const trace::Reader& trace) {
  if (o.objective != "auto") return {o.objective, "asked for"};
  if (o.score_page != "sum") return {"kl", "recall is not known under the page score " + o.score_page};
  if (calib::has_sensitivity(trace)) return {"kl", "every sample of the trace has its predicted KL"};
  return {"recall", "not every sample of the trace has its predicted KL (profile --sensitivity records it)"};
}

// The solver's options where so many candidates are wanted: more are looked at where they are put into order.
calib::schedule::Options options_for(const Problem& p, int candidates) {
  calib::schedule::Options options = p.solver;
  options.candidates = p.joint ? std::max(candidates, options.candidates) : candidates;
  return options;
}

void put_in_order(const Problem& p, std::vector<calib::schedule::Candidate>& found) {
  if (p.joint)
    calib::order_by(found, [&](const config::Schedule& s) {
      return calib::value_of(p.joint->predict(s, p.samples), p.order);
    });
}

// dp by the predicted KL or the objective's loss, recall-dp by the recall lost.
std::optional<calib::Choice> best_of_solver(const Problem& p, const std::string& method, long long budget) {
  const bool recall = method == "recall-dp";
  const calib::EdgeCosts& edges = recall ? p.recall_edges : p.edges;
  auto found = calib::schedule::k_best(edges, p.layers, budget, options_for(p, 1));
  if (!recall) put_in_order(p, found);
  if (found.empty()) return std::nullopt;
  return calib::Choice{method, found[0].schedule, calib::schedule::loss_of(p.edges, found[0].schedule),
                       p.attended(found[0])};
}

calib::Goal goal_of(const CalibrateOptions& o) {
  if (o.min_recall) return calib::min_recall_goal(*o.min_recall);
  if (o.max_kl) return calib::max_kl_goal(*o.max_kl);
  return calib::parse_budget(o.budget);
}

calib::schedule::Options solver_of(const CalibrateOptions& o, int n_layers) {
  using calib::schedule::Budgets;
  calib::schedule::Options options;
  options.full_layers = parse_full_layers(o.full_layers, n_layers);
  options.budgets = o.k_per == "layer"     ? Budgets::per_layer
                    : o.k_per == "segment" ? Budgets::per_segment
                                           : Budgets::one;
  options.candidates = o.candidates;
  return options;
}

calib::schedule::Costs costs_of(const CalibrateOptions& o, const calib::Goal& goal, const ModelInfo& model,
                                std::span<const config::StepRange> ranges, const calib::Grid& grid) {
  std::optional<calib::CostTable> table;
  if (goal.kind == calib::Goal::Kind::ms) {
    if (o.cost.empty())
      throw bad_input(
          "--budget {}: a budget in milliseconds needs --cost TABLE, the times of a decoding step", o.budget);
    table = calib::read_cost_table(o.cost);
  } else if (!o.cost.empty()) {
    throw bad_input("--cost is read for --budget ms=T alone");
  }
  const int element_size = model.dtype == "f32" ? 4 : 2;
  return calib::schedule::costs_for(
      goal,
      {ranges, model.n_layers, calib::bytes_per_position(model.n_kv_heads, model.head_dim, element_size),
       table ? &*table : nullptr},
      grid.k_pages);
}

// Upper bound of a schedule's summed KL over the problems, or the mean where there is no interval.
double upper_kl(const Problem& p, const config::Schedule& schedule) {
  std::vector<double> sums;
  std::vector<std::string> problems;
  calib::EdgeCosts own = p.edges;
  for (size_t s = 0; s < p.kl.size(); ++s) {
    own.loss = sample_loss(p, s);
    sums.push_back(calib::schedule::loss_of(own, schedule));
    problems.push_back(p.kl[s].problem);
  }
  const calib::Estimate e = calib::mean_with_interval(sums, problems, p.bootstrap);
  return e.high.value_or(e.mean);
}

// The method's schedule, with DELTA's score.
std::optional<calib::Choice> chosen_by(const std::string& method, const CalibrateOptions& o, const Problem& p,
                                       long long budget) {
  if (method == "dp" || method == "recall-dp") return best_of_solver(p, method, budget);
  const calib::BaselineOptions options{p.full_layers(), usual_l_pages(p), o.made.seed};
  std::optional<calib::BaselineSchedule> found;
  if (method == "kascade") {
    found = calib::baselines::kascade(p.edges, p.oracle, p.steps, budget, options);
  } else if (method == "tidal") {
    found = calib::baselines::tidal(p.edges, p.steps, budget, options.l_pages);
  } else {
    const auto kind = method == "cosine-peaks" ? calib::Baseline::cosine_peaks
                      : method == "uniform"    ? calib::Baseline::uniform
                                               : calib::Baseline::random;
    found = calib::baseline(kind, p.edges, p.steps, budget, p.drift, options);
  }
  if (!found) return std::nullopt;
  return calib::Choice{method, found->schedule, found->loss, found->attended};
}

// How the candidates are ordered.
void order(const CalibrateOptions& o, const trace::Reader& trace, Problem& p) {
  using Kind = calib::Goal::Kind;
  const bool target = p.goal.kind == Kind::max_kl || p.goal.kind == Kind::min_recall;
  // The steps' changes of the loss are recorded of DELTA's page score alone, and their cross terms are means.
  const bool known =
      p.objective == "kl" && p.page_score == PageScore::sum && o.aggregate == "mean" && !target;
  p.order = calib::parse_order(o.order);
  if (p.order == calib::Order::additive) return;
  if (!known)
    throw bad_input(
        "--order {}: cross terms are known of the objective kl under a budget, with the aggregate mean and DELTA's "
        "page score",
        o.order);
  p.joint = std::make_shared<calib::JointPredictor>(trace, p.grid);
}

}  // namespace

long long Problem::attended(const calib::schedule::Candidate& found) const {
  return found.schedule.refresh ? found.cost : calib::schedule::attended_by(steps, found.schedule);
}

double Problem::ratio_of(long long attended) const {
  return double(layers.full) * n_layers / double(attended);
}

Problem problem_of(const CalibrateOptions& o, const trace::Reader& trace) {
  const int n_layers = trace.model().n_layers;
  const calib::Goal goal = goal_of(o);
  const calib::schedule::Options solver = solver_of(o, n_layers);
  const calib::Aggregate aggregate = calib::parse_aggregate(o.aggregate);
  const calib::Bootstrap bootstrap{o.resamples, o.made.seed, 0.95};
  const calib::Grid grid{o.k_pages, o.l_pages};
  calib::check(grid);
  const auto [objective, reason] = objective_of(o, trace);
  if (goal.kind == calib::Goal::Kind::max_kl && objective != "kl")
    throw bad_input("--max-kl: {}", o.objective == "recall" ? "it is a target of the objective kl"
                                                            : reason + ": profile with --sensitivity");
  const auto ranges = ranges_of(trace, o.context);
  Problem p{grid,
            bootstrap,
            {},
            {},
            objective,
            reason,
            {},
            {},
            {},
            {},
            calib::StepCosts(ranges),
            {},
            goal,
            costs_of(o, goal, trace.model(), ranges, grid),
            solver,
            n_layers,
            {}};
  p.page_score = page_score_of(o);
  if (objective == "kl" || calib::has_sensitivity(trace, grid))
    p.kl = calib::predicted_kl(trace, grid, {p.page_score, 1});
  p.recalls = calib::recalls(trace, grid);
  p.recall_edges = calib::recall_costs(grid, p.recalls, bootstrap, {}, aggregate);
  p.edges = objective == "kl" ? calib::kl_costs(grid, p.recalls, p.kl, aggregate, bootstrap) : p.recall_edges;
  p.oracle = calib::baselines::mean_oracle(p.recalls, static_cast<int>(grid.k_pages.size()));
  const Eigen::VectorXd drift = calib::mean_layer_drift(trace);
  p.drift.assign(drift.data(), drift.data() + drift.size());
  p.layers = calib::layer_costs(p.steps, grid.k_pages);
  p.samples.resize(trace.n_samples());
  std::iota(p.samples.begin(), p.samples.end(), 0);
  order(o, trace, p);
  return p;
}

Problem restricted(const CalibrateOptions& o, const trace::Reader& trace, const Problem& whole,
                   const std::vector<int>& samples) {
  Problem p = whole;
  p.recalls.clear();
  p.kl.clear();
  p.samples = samples;
  for (const int i : samples) {
    p.recalls.push_back(whole.recalls[i]);
    if (!whole.kl.empty()) p.kl.push_back(whole.kl[i]);
  }
  const calib::Aggregate aggregate = calib::parse_aggregate(o.aggregate);
  const calib::Bootstrap no_bounds{1, o.made.seed, 0.95};  // the solver reads means
  p.recall_edges = calib::recall_costs(p.grid, p.recalls, no_bounds, {}, aggregate);
  p.edges =
      p.objective == "kl" ? calib::kl_costs(p.grid, p.recalls, p.kl, aggregate, no_bounds) : p.recall_edges;
  const auto ranges = ranges_of(trace, o.context, samples);
  p.steps = calib::StepCosts(ranges);
  p.layers = calib::layer_costs(p.steps, p.grid.k_pages);
  p.costs = costs_of(o, p.goal, trace.model(), ranges, p.grid);
  return p;
}

std::vector<calib::Choice> solve(const Problem& p, int candidates) {
  const calib::schedule::Options options = options_for(p, candidates);
  calib::Goal goal = p.goal;
  auto found = calib::schedule::best_for(goal, p.edges, p.costs, options);
  if (goal.kind == calib::Goal::Kind::max_kl && p.goal.value > 0)
    for (int i = 0; i < 40 && !found.empty(); ++i) {  // the bound grows with the sum, not quite in proportion
      const double bound = upper_kl(p, found[0].schedule);
      if (!(bound > p.goal.value)) break;
      goal.value = std::min(goal.value * 0.98, goal.value * p.goal.value / bound);
      found = calib::schedule::best_for(goal, p.edges, p.costs, options);
      if (i == 39)
        throw failure("--max-kl {}: no schedule was found whose upper bound meets it", p.goal.value);
    }
  if (goal.kind != calib::Goal::Kind::max_kl && goal.kind != calib::Goal::Kind::min_recall) put_in_order(p, found);
  if (static_cast<int>(found.size()) > candidates) found.resize(candidates);
  std::vector<calib::Choice> choices;
  for (auto& c : found) {
    c.schedule.page_score = p.page_score;
    choices.push_back({"dp", c.schedule, c.loss, p.attended(c)});
  }
  return choices;
}

Error no_schedule(const CalibrateOptions& o, const Problem& p) {
  const auto nearest = calib::schedule::cheapest(p.edges, p.costs.layers, p.solver);
  if (p.goal.kind == calib::Goal::Kind::ms) {
    // Costs and budget lack what no schedule changes, the same in both.
    const long long cost = nearest ? nearest->cost : p.n_layers * p.costs.layers.full;
    return bad_input(
        "no schedule meets --budget {} on these lengths: a step of the nearest takes {:.6g} ms ({}). Allow "
        "more "
        "time, smaller --k-pages or fewer --full-layers",
        o.budget, p.goal.value + 1e-6 * double(cost - p.costs.budget) / double(p.steps.n_steps()),
        nearest ? config::describe(nearest->schedule) : "all layers full");
  }
  return bad_input(
      "no schedule meets --budget {} on these lengths: the nearest has an attended-token ratio of {:.3f} "
      "({}). Ask for "
      "less, allow smaller --k-pages, fewer --full-layers, or calibrate on longer traces",
      o.budget, nearest ? p.ratio_of(p.attended(*nearest)) : 1,
      nearest ? config::describe(nearest->schedule) : "all layers full");
}

const std::vector<std::string>& trace_methods() {
  static const std::vector<std::string> names{"dp",    "recall-dp", "cosine-peaks", "kascade",
                                              "tidal", "uniform",   "random"};
  return names;
}

bool needs_recall(const std::string& method) {
  return method == "recall-dp" || method == "kascade" || method == "tidal";
}

int usual_l_pages(const Problem& p) {
  return p.edges.l_pages[std::max(0, p.edges.l_floor(4))];
}

std::optional<calib::Choice> choose(const std::string& method, const CalibrateOptions& o, const Problem& p,
                                    long long budget) {
  auto choice = chosen_by(method, o, p, budget);
  if (choice) choice->schedule.page_score = p.page_score;
  return choice;
}

std::vector<double> sample_loss(const Problem& p, size_t sample) {
  std::vector<double> loss(p.edges.loss.size(), std::nan(""));
  const auto pairs = p.grid.pairs();
  for (int pair = 0; pair < static_cast<int>(pairs.size()); ++pair)
    for (int target = 0; target < p.n_layers; ++target)
      for (int source = 0; source <= target; ++source) {
        const size_t edge = p.edges.at(target, source, p.edges.k_floor(pairs[pair].k_pages),
                                       p.edges.l_floor(pairs[pair].l_pages));
        if (std::isnan(p.edges.loss[edge])) continue;
        const auto& recall = p.recalls[sample];
        loss[edge] = p.objective == "kl"
                         ? double(p.kl[sample].kl[p.kl[sample].at(pair, target, source)])
                         : std::max(0.0, double(recall.mean_lost[recall.at(pair, target, source)]));
      }
  return loss;
}

double mean_recall_of(const Problem& p, const config::Schedule& schedule) {
  if (config::keeps_lists(schedule)) return std::nan("");
  const auto n = static_cast<double>(calib::entries_of(p.edges, schedule).size());
  return n > 0 ? 1 - calib::baselines::summed_recall_lost(p.edges, schedule) / n : std::nan("");
}

}  // namespace deltacal::tools
