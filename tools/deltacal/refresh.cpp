#include "refresh.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "core/error.h"

namespace deltacal::tools {
namespace {

// 0: auto.
int interval_of(const std::string& text) {
  if (text == "auto") return 0;
  int interval = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), interval);
  if (error != std::errc() || end != text.data() + text.size() || interval < 1)
    throw bad_input("--refresh {}: give the steps that a list serves, 1 or more, or auto", text);
  return interval;
}

}  // namespace

std::vector<int> recorded_intervals(const trace::Reader& trace, PageScore page) {
  std::vector<int> intervals;
  if (!calib::has_sensitivity(trace)) return intervals;
  for (const auto& [ranking, kl] : trace.sensitivity(0).rankings)
    if (ranking.page == page && ranking.refresh_interval > 1 && calib::has_ranking(trace, ranking))
      intervals.push_back(ranking.refresh_interval);
  std::ranges::sort(intervals);
  return intervals;
}

Problem with_refresh(const Problem& of, const CalibrateOptions& o, const trace::Reader& trace, int interval) {
  Problem p = of;
  p.kl = calib::predicted_kl(trace, p.grid, {of.score.page, interval});
  p.edges = calib::kl_costs(p.grid, p.recalls, p.kl, calib::parse_aggregate(o.aggregate), p.bootstrap);
  p.solver.refresh_interval = interval;
  p.joint = nullptr;
  p.layers = p.costs.layers = calib::layer_costs(p.steps, p.grid.k_pages, interval);
  return p;
}

Problem choose_refresh(Problem p, const CalibrateOptions& o, const trace::Reader& trace) {
  const int asked = interval_of(o.refresh);
  if (asked == 1) return p;
  if (p.objective != "kl")
    throw bad_input(
        "--refresh {}: the recall of lists that serve several steps is not recorded; objective {} ({})",
        o.refresh, p.objective, p.objective_reason);
  if (asked > 1) return with_refresh(p, o, trace, asked);
  const std::vector<int> intervals = recorded_intervals(trace, p.score.page);
  if (intervals.empty())
    throw bad_input(
        "--refresh auto: {} has no ranking refresh:N: profile with --sensitivity --rankings "
        "refresh:2,refresh:4",
        trace.path());
  p.joint = nullptr;  // not known of the other intervals: all are judged by the sum over edges
  std::vector<Problem> problems{std::move(p)};
  for (const int interval : intervals) problems.push_back(with_refresh(problems[0], o, trace, interval));
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
  if (interval_of(o.refresh) == 1) return;
  if (o.compare)
    throw bad_input("--refresh {}: --compare has a row for every interval that the trace has", o.refresh);
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
