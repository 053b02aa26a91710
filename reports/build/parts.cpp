#include "reports/build/parts.h"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "reports/format.h"

namespace deltacal::reports {
namespace {

std::string plural(long long n, const char* what) {
  return fmt::format("{} {}{}", grouped(n), what, n == 1 ? "" : "s");
}

double distance(int a, int b) {
  return std::abs(std::log2(std::max(a, 1)) - std::log2(std::max(b, 1)));
}

template <class Entry>
const Entry* nearest_budget(const std::vector<Entry>& entries, int k, int l) {
  const Entry* best = nullptr;
  const auto far = [&](const Entry& e) { return std::pair(distance(e.k_pages, k), distance(e.l_pages, l)); };
  for (const Entry& entry : entries)
    if (!best || far(entry) < far(*best)) best = &entry;
  return best;
}

}  // namespace

std::string counts_text(const Counts& counts) {
  std::string text = plural(counts.samples, "sample");
  if (counts.problems > 0) text += " of " + plural(counts.problems, "problem");
  if (counts.steps > 0) text += ", " + plural(counts.steps, "step");
  return text;
}

std::string limits_text(int max_tokens, int pack) {
  std::string text;
  if (pack > 0) text += fmt::format(", lines joined to samples of at least {} tokens", grouped(pack));
  if (max_tokens > 0) text += fmt::format(", at most {} tokens of each sample", grouped(max_tokens));
  return text;
}

std::string interval_text(const IntervalMethod& interval) {
  if (!interval.reason.empty()) return "No intervals: " + interval.reason + ".";
  std::string text = std::isfinite(interval.confidence)
                         ? fmt::format("{:.4g}% intervals", 100 * interval.confidence)
                         : std::string("Intervals");
  if (!interval.method.empty()) text += ": " + interval.method;
  if (interval.resamples > 0) text += fmt::format(", {} resamples", grouped(interval.resamples));
  if (!interval.seed.empty()) text += fmt::format(", seed {}", interval.seed);
  return text + ".";
}

std::vector<std::string> layer_names(size_t n) {
  std::vector<std::string> names;
  for (size_t i = 0; i < n; ++i) names.push_back(fmt::format("{}", i));
  return names;
}

std::vector<int> delta_layers(const Strip& strip) {
  std::vector<int> layers;
  for (size_t i = 0; i < strip.layers.size(); ++i)
    if (strip.layers[i].role == Role::delta) layers.push_back(static_cast<int>(i));
  return layers;
}

std::string joined(const std::vector<int>& numbers) {
  return fmt::format("{}", fmt::join(numbers, ", "));
}

Estimate only(double value) {
  return {value, missing, missing};
}
Estimate whole(long long count) {
  return only(static_cast<double>(count));
}

Counts counts_of(const Validation::Policy& policy) {
  if (policy.active.counts.samples > 0) return policy.active.counts;
  Counts counts;
  std::set<std::string> problems;
  for (const auto& sample : policy.samples) {
    if (sample.active_steps == 0) continue;
    ++counts.samples;
    counts.steps += sample.active_steps;
    if (!sample.problem.empty()) problems.insert(sample.problem);
  }
  counts.problems = static_cast<int>(problems.size());
  return counts;
}

const Validation::Policy* find_policy(const Validation& validation, const std::string& name) {
  for (const auto& policy : validation.policies)
    if (policy.name == name) return &policy;
  return nullptr;
}

const Analysis::Recall* nearest(const std::vector<Analysis::Recall>& tables, int k, int l) {
  return nearest_budget(tables, k, l);
}

const Analysis::Stale* nearest(const std::vector<Analysis::Stale>& entries, int k, int l) {
  return nearest_budget(entries, k, l);
}

const Analysis::Oracle* nearest(const std::vector<Analysis::Oracle>& tables, int k) {
  const Analysis::Oracle* best = nullptr;
  for (const auto& table : tables)
    if (!best || distance(table.k_pages, k) < distance(best->k_pages, k)) best = &table;
  return best;
}

Budget main_budget(const Analysis* analysis, const Config* config) {
  Budget budget;
  if (config) {
    std::map<int, int> uses;
    for (const auto& layer : config->strip.layers) {
      if (layer.role == Role::sparse) ++uses[layer.k_pages];
      if (layer.role == Role::delta && budget.l_pages == 0) budget.l_pages = layer.l_pages;
    }
    int most = 0;
    for (const auto& [k, n] : uses)
      if (n >= most) std::tie(most, budget.k_pages) = std::pair(n, k);
  }
  if (budget.k_pages == 0 && analysis && !analysis->recall.empty()) {
    const auto& middle = analysis->recall[analysis->recall.size() / 2];
    budget = {middle.k_pages, middle.l_pages};
  }
  return budget;
}

}  // namespace deltacal::reports
