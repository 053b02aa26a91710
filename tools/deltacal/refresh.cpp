#include "refresh.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "core/error.h"

namespace deltacal::tools {
namespace {

// Of --refresh; empty: auto.
std::optional<Ranking> ranking_of(const CalibrateOptions& o) {
  const std::string& text = o.refresh;
  if (text == "auto") return std::nullopt;
  Ranking ranking;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), ranking.refresh_interval);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  if (!whole && text.starts_with("cosine:"))
    ranking = parse_ranking(text);
  else if (!whole || ranking.refresh_interval < 1)
    throw bad_input("--refresh {}: give the steps that a list serves, 1 or more, cosine:T, or auto", text);
  ranking.page = o.score_page == "max" ? PageScore::max : PageScore::sum;
  return ranking;
}

bool makes_more_lists(const Ranking& a, const Ranking& b) {
  if (a.refresh_below.has_value() != b.refresh_below.has_value()) return !a.refresh_below;
  return a.refresh_below ? *a.refresh_below > *b.refresh_below : a.refresh_interval < b.refresh_interval;
}

// [n_samples][n_layers, steps]
std::vector<std::vector<int32_t>> lists_of(const trace::Reader& trace, const Ranking& ranking) {
  std::vector<std::vector<int32_t>> lists;
  for (int sample = 0; sample < trace.n_samples(); ++sample) {
    auto recorded = trace.sensitivity(sample).rankings;
    lists.push_back(std::move(std::ranges::find(recorded, ranking, &trace::RankedKl::ranking)->list_made_at));
  }
  return lists;
}

}  // namespace

std::vector<Ranking> recorded_refreshes(const trace::Reader& trace, PageScore page) {
  std::vector<Ranking> rankings;
  if (!calib::has_sensitivity(trace)) return rankings;
  for (const auto& recorded : trace.sensitivity(0).rankings)
    if (const Ranking& ranking = recorded.ranking;
        ranking.page == page && ranking.keeps_lists() && calib::has_ranking(trace, ranking))
      rankings.push_back(ranking);
  std::ranges::sort(rankings, makes_more_lists);
  return rankings;
}

Problem with_refresh(const Problem& of, const CalibrateOptions& o, const trace::Reader& trace,
                     const Ranking& ranking) {
  Problem p = of;
  p.kl = calib::predicted_kl(trace, p.grid, ranking);
  p.edges = calib::kl_costs(p.grid, p.recalls, p.kl, calib::parse_aggregate(o.aggregate), p.bootstrap);
  p.joint = nullptr;
  p.solver.refresh_interval = ranking.refresh_interval;
  if (ranking.refresh_below) {
    if (o.context > 0)
      throw bad_input("--context {}: when a signal makes lists is known of the samples' own steps alone", o.context);
    p.solver.refresh = config::AdaptiveRefresh{*ranking.refresh_below, most_steps_of_signal};
    p.layers.listed = calib::listed_costs(p.steps, p.grid.k_pages, p.n_layers, lists_of(trace, ranking));
  } else {
    p.layers.listed = calib::listed_costs(p.steps, p.grid.k_pages, p.n_layers, ranking.refresh_interval);
  }
  p.costs.layers = p.layers;
  return p;
}

Problem choose_refresh(Problem p, const CalibrateOptions& o, const trace::Reader& trace) {
  const auto asked = ranking_of(o);
  if (asked && !asked->keeps_lists()) return p;
  if (p.objective != "kl")
    throw bad_input(
        "--refresh {}: the recall of lists that serve several steps is not recorded; objective {} ({})",
        o.refresh, p.objective, p.objective_reason);
  if (asked) return with_refresh(p, o, trace, *asked);
  const std::vector<Ranking> rankings = recorded_refreshes(trace, p.score.page);
  if (rankings.empty())
    throw bad_input(
        "--refresh auto: {} has no ranking refresh:N or cosine:T: profile with --sensitivity --rankings "
        "refresh:2,cosine:0.9",
        trace.path());
  p.joint = nullptr;  // not known of the other rankings: all are judged by the sum over edges
  std::vector<Problem> problems{std::move(p)};
  for (const Ranking& ranking : rankings) problems.push_back(with_refresh(problems[0], o, trace, ranking));
  const auto value = [](const Problem& problem) {
    const auto found = solve(problem, 1);
    if (found.empty()) return std::numeric_limits<double>::infinity();
    return problem.goal.kind == calib::Goal::Kind::max_kl ? double(found[0].attended) : found[0].loss;
  };
  size_t best = 0;
  double least = value(problems[0]);
  for (size_t i = 1; i < problems.size(); ++i)
    if (const double other = value(problems[i]); other < least) best = i, least = other;
  return std::move(problems[best]);
}

void check_refresh(const CalibrateOptions& o) {
  if (const auto asked = ranking_of(o); asked && !asked->keeps_lists()) return;
  if (o.compare)
    throw bad_input("--refresh {}: --compare has a row for every ranking of the trace whose lists serve several steps", o.refresh);
  if (o.transfer || o.fit_head_weights)
    throw bad_input(
        "--refresh {} goes neither with --transfer nor with --fit-head-weights, which know a new list at "
        "every step alone",
        o.refresh);
  if (o.method != "dp" || o.rerank > 0 || !o.alternatives_dir.empty())
    throw bad_input("--refresh {} goes with --method dp, without --rerank and --alternatives-dir", o.refresh);
  if (o.order != "additive")
    throw bad_input("--order {}: cross terms are known of lists that serve one step, not with --refresh {}", o.order,
                    o.refresh);
  if (o.min_recall || o.budget.starts_with("ms="))
    throw bad_input("--refresh {} works to a budget of attended tokens or bytes, or to --max-kl", o.refresh);
}

}  // namespace deltacal::tools
