#include "refresh.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "core/error.h"

namespace deltacal::tools {
namespace {

constexpr const char* forms =
    "give the steps that a list serves, 1 or more, cosine:T with T from -1 to 1, or auto";

// Of --refresh; empty: auto.
std::optional<Ranking> ranking_of(const CalibrateOptions& o) {
  const std::string& text = o.refresh;
  if (text == "auto") return std::nullopt;
  Ranking ranking;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), ranking.refresh_interval);
  const bool is_number = error == std::errc() && end == text.data() + text.size();
  if (!is_number) {
    try {
      ranking = parse_ranking(text);
    } catch (const Error&) {
      throw bad_input("--refresh {}: {}", text, forms);
    }
  }
  if (is_number ? ranking.refresh_interval < 1 : !text.starts_with("cosine:"))
    throw bad_input("--refresh {}: {}", text, forms);
  ranking.page = page_score_of(o);
  return ranking;
}

bool makes_more_lists(const Ranking& a, const Ranking& b) {
  if (a.refresh_below.has_value() != b.refresh_below.has_value()) return !a.refresh_below;
  return a.refresh_below ? *a.refresh_below > *b.refresh_below : a.refresh_interval < b.refresh_interval;
}

// Whether --refresh asks for a new list at every step.
bool is_every_step(const CalibrateOptions& o) {
  const auto asked = ranking_of(o);
  return asked && !asked->keeps_lists();
}

// [n_samples][n_layers, steps]
std::vector<std::vector<int32_t>> lists_of(const trace::Reader& trace, const Ranking& ranking) {
  std::vector<std::vector<int32_t>> lists;
  for (int sample = 0; sample < trace.n_samples(); ++sample)
    lists.push_back(trace.list_made_at(sample, ranking));
  return lists;
}

}  // namespace

std::string why_not(const CalibrateOptions& o, const Ranking& ranking) {
  if (!ranking.refresh_below) return "";
  if (o.context > 0)
    return fmt::format("when a signal makes lists is known of the samples' own steps, not of --context {}",
                       o.context);
  return "";
}

std::vector<Ranking> recorded_refreshes(const trace::Reader& trace, PageScore page) {
  std::vector<Ranking> rankings;
  if (!calib::has_sensitivity(trace)) return rankings;
  for (const Ranking& ranking : trace.rankings(0))
    if (ranking.page == page && ranking.keeps_lists() && calib::has_ranking(trace, ranking))
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
    p.solver.refresh = config::AdaptiveRefresh{*ranking.refresh_below, most_steps_of_signal};
    p.layers.listed = calib::listed_costs(p.steps, p.grid.k_pages, p.n_layers, lists_of(trace, ranking));
  } else {
    p.layers.listed = calib::listed_costs(p.steps, p.grid.k_pages, p.n_layers, ranking.refresh_interval);
  }
  p.costs.layers = p.layers;
  return p;
}

namespace {

// The task whose best schedule meets the goal with the least loss, or cost; where none meets it, the task
// that can cost the least.
const Problem& best_of(const std::vector<Problem>& problems) {
  constexpr double infinite = std::numeric_limits<double>::infinity();
  std::vector<double> value, least_cost;
  for (const Problem& p : problems) {
    const auto found = solve(p, 1);
    const bool target = p.goal.kind == calib::Goal::Kind::max_kl;
    value.push_back(found.empty() ? infinite : target ? double(found[0].attended) : found[0].loss);
    const auto cheapest = calib::schedule::cheapest(p.edges, p.costs.layers, p.solver);
    least_cost.push_back(cheapest ? double(cheapest->cost) : infinite);
  }
  const auto best = std::ranges::min_element(value);
  if (*best < infinite) return problems[size_t(best - value.begin())];
  return problems[size_t(std::ranges::min_element(least_cost) - least_cost.begin())];
}

}  // namespace

Problem choose_refresh(Problem p, const CalibrateOptions& o, const trace::Reader& trace) {
  if (is_every_step(o)) return p;
  if (p.objective != "kl")
    throw bad_input(
        "--refresh {}: the recall of lists that serve several steps is not recorded; objective {} ({})",
        o.refresh, p.objective, p.objective_reason);
  if (const auto asked = ranking_of(o)) return with_refresh(p, o, trace, *asked);
  const std::vector<Ranking> rankings = recorded_refreshes(trace, p.page_score);
  if (rankings.empty())
    throw bad_input(
        "--refresh auto: {} has no ranking refresh:N or cosine:T: profile with --sensitivity --rankings "
        "refresh:2,cosine:0.8",
        trace.path());
  p.joint = nullptr;  // not known of the other rankings: all are judged by the sum over edges
  std::vector<Problem> problems{std::move(p)};
  for (const Ranking& ranking : rankings) {
    if (const std::string reason = why_not(o, ranking); !reason.empty())
      fmt::print(stderr, "{} is left out: {}\n", name_of(ranking), reason);
    else
      problems.push_back(with_refresh(problems[0], o, trace, ranking));
  }
  return best_of(problems);
}

void check_refresh(const CalibrateOptions& o) {
  if (is_every_step(o)) return;
  if (const auto asked = ranking_of(o))
    if (const std::string reason = why_not(o, *asked); !reason.empty())
      throw bad_input("--refresh {}: {}", o.refresh, reason);
  if (o.compare)
    throw bad_input(
        "--refresh {}: --compare has a row for every ranking of the trace whose lists serve several steps",
        o.refresh);
  if (o.transfer)
    throw bad_input("--refresh {} does not go with --transfer, which knows a new list at every step alone",
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
