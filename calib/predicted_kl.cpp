#include "calib/predicted_kl.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <limits>
#include <numeric>
#include <set>

#include "core/error.h"

namespace deltacal::calib {

bool has_sensitivity(const trace::Reader& trace) {
  for (int sample = 0; sample < trace.n_samples(); ++sample)
    if (!trace.has_sensitivity(sample)) return false;
  return trace.n_samples() > 0;
}

bool has_sensitivity(const trace::Reader& trace, const Grid& grid) {
  if (!has_sensitivity(trace)) return false;
  const auto pairs = grid.pairs();
  for (int sample = 0; sample < trace.n_samples(); ++sample) {
    const auto recorded = trace.sensitivity(sample).budgets;
    for (const Budget& pair : pairs)
      if (std::ranges::find(recorded, pair) == recorded.end()) return false;
  }
  return true;
}

bool has_ranking(const trace::Reader& trace, const Ranking& ranking) {
  if (!has_sensitivity(trace)) return false;
  for (int sample = 0; sample < trace.n_samples() && ranking != Ranking{}; ++sample) {
    const auto& recorded = trace.rankings(sample);
    if (std::ranges::find(recorded, ranking) == recorded.end()) return false;
  }
  return true;
}

namespace {

// "K 4, 8, 16 and L 1, 2": for the message that names what was profiled.
std::string text(const std::vector<PageBudget>& budgets) {
  std::set<int> k, l;
  for (const auto& b : budgets) k.insert(b.k_pages), l.insert(b.l_pages);
  return fmt::format("--k-pages {} --l-pages {}", fmt::join(k, ","), fmt::join(l, ","));
}

// edge_kl under one ranking.
const std::vector<float>& kl_of(const trace::EdgeSensitivity& edges, const Ranking& ranking,
                                const std::string& path, const std::string& id) {
  if (ranking == Ranking{}) return edges.kl;
  const auto found = std::ranges::find(edges.rankings, ranking, &trace::RankedKl::ranking);
  if (found == edges.rankings.end())
    throw bad_input(
        "trace {}: sample {} has no predicted KL of ranking {}: profile with --sensitivity --rankings {}",
        path, id, name_of(ranking), name_of(ranking));
  return found->kl;
}

}  // namespace

std::vector<SampleKl> predicted_kl(const trace::Reader& trace, const Grid& grid,
                                   const Ranking& ranking) {
  const auto pairs = grid.pairs();
  const std::size_t n_layers = static_cast<std::size_t>(trace.model().n_layers), n = n_layers * n_layers;
  std::vector<SampleKl> out;
  for (int sample = 0; sample < trace.n_samples(); ++sample) {
    const auto& info = trace.info(sample);
    if (!trace.has_sensitivity(sample) && ranking == Ranking{})
      throw bad_input(
          "trace {}: sample {} was recorded without predicted KL: profile with --sensitivity, or calibrate "
          "with --objective recall",
          trace.path(), info.id);
    const trace::EdgeSensitivity edges =
        trace.has_sensitivity(sample) ? trace.sensitivity(sample) : trace::EdgeSensitivity{};
    const std::vector<float>& recorded = kl_of(edges, ranking, trace.path(), info.id);
    SampleKl kl{info.id, info.problem, static_cast<int>(n_layers), {}};
    for (const Budget& pair : pairs) {
      const auto found = std::ranges::find(edges.budgets, pair);
      if (found == edges.budgets.end())
        throw bad_input("trace {}: sample {} has no predicted KL for K = {}, L = {}; it was profiled with {}",
                        trace.path(), info.id, pair.k_pages, pair.l_pages, text(edges.budgets));
      const auto first = recorded.begin() + static_cast<std::ptrdiff_t>(
                                                n * static_cast<std::size_t>(found - edges.budgets.begin()));
      kl.kl.insert(kl.kl.end(), first, first + static_cast<std::ptrdiff_t>(n));
    }
    out.push_back(std::move(kl));
  }
  return out;
}

Aggregate parse_aggregate(std::string_view text) {
  if (text == "mean") return {Aggregate::Kind::mean, 1};
  if (text == "max") return {Aggregate::Kind::max, 0};
  constexpr std::string_view cvar = "cvar:";
  double tail = 0;
  if (text.starts_with(cvar)) {
    const auto [end, error] = std::from_chars(text.data() + cvar.size(), text.data() + text.size(), tail);
    if (error == std::errc() && end == text.data() + text.size() && tail > 0 && tail < 1)
      return {Aggregate::Kind::cvar, tail};
  }
  throw bad_input(
      "--aggregate {}: give mean, max, or cvar:SHARE with a share of the samples between 0 and 1, such as "
      "cvar:0.1",
      text);
}

std::string name_of(const Aggregate& a) {
  if (a.kind == Aggregate::Kind::mean) return "mean";
  return a.kind == Aggregate::Kind::max ? "max" : fmt::format("cvar:{}", a.tail);
}

double aggregate(std::span<const double> values, const Aggregate& how) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  if (how.kind == Aggregate::Kind::max) return *std::ranges::max_element(values);
  const double n = static_cast<double>(values.size());
  if (how.kind == Aggregate::Kind::mean) return std::accumulate(values.begin(), values.end(), 0.0) / n;
  std::vector<double> worst(values.begin(), values.end());
  std::ranges::sort(worst, std::greater<>());
  double sum = 0, left = how.tail * n;
  for (std::size_t i = 0; i < worst.size() && left > 0; ++i, left -= 1) sum += worst[i] * std::min(1.0, left);
  return sum / (how.tail * n);
}

}  // namespace deltacal::calib
