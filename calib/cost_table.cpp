#include "calib/cost_table.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "config/fields.h"
#include "core/error.h"
#include "core/files.h"

namespace deltacal::calib {
namespace {

using config::Fields;
using config::Json;

constexpr const char* format_name = "deltacal-cost-table";
constexpr int schema_version = 1;

std::vector<int> ascending(const Fields& f, const std::string& name) {
  std::vector<int> values;
  for (const Json& value : f.array(name)) {
    if (!value.is_number_integer() || value.get<long long>() < 1 || value.get<long long>() > 1 << 30 ||
        (!values.empty() && value.get<long long>() <= values.back()))
      throw f.wrong(name, "whole numbers of at least 1, ascending");
    values.push_back(value.get<int>());
  }
  if (values.empty()) throw f.wrong(name, "at least one");
  return values;
}

std::vector<double> times(const Fields& f, const std::string& name, const Json& row, size_t n) {
  std::vector<double> values;
  const std::string expected = fmt::format("{} times in milliseconds, 0 or more", n);
  if (!row.is_array() || row.size() != n) throw f.wrong(name, expected);
  for (const Json& value : row) {
    if (!value.is_number() || !(value.get<double>() >= 0) || !std::isfinite(value.get<double>()))
      throw f.wrong(name, expected);
    values.push_back(value.get<double>());
  }
  return values;
}

std::vector<double> times(const Fields& f, const std::string& name, size_t n) {
  return times(f, name, f.array(name), n);
}

// Where a value lies among ascending ones: between `index` and the next, so far along.
struct Place {
  size_t index = 0;
  double share = 0;
  double of(double at, double next) const { return at + share * (next - at); }
};

Place place(const std::vector<int>& values, int value) {
  const size_t above = std::upper_bound(values.begin(), values.end(), value) - values.begin();
  if (above == values.size()) return {values.size() - 1, 0};
  const size_t i = above - 1;
  return {i, static_cast<double>(value - values[i]) / (values[i + 1] - values[i])};
}

double interpolated(const std::vector<double>& row, const Place& at) {
  return at.share == 0 ? row[at.index] : at.of(row[at.index], row[at.index + 1]);
}
double interpolated(const std::vector<std::vector<double>>& rows, const Place& context, const Place& k) {
  const double here = interpolated(rows[context.index], k);
  return context.share == 0 ? here : context.of(here, interpolated(rows[context.index + 1], k));
}

// Up, but for what is only the rounding of a product by 1e6.
long long nanoseconds(double ms) {
  const double ns = ms * 1e6;
  const double nearest = std::round(ns);
  return static_cast<long long>(std::abs(ns - nearest) <= 1e-9 * ns ? nearest : std::ceil(ns));
}

void check_covers(const CostTable& table, std::span<const config::StepRange> sequences) {
  if (sequences.empty()) throw bad_input("no steps to take the cost of a schedule on");
  for (const auto& range : sequences)
    if (range.first < 0 || range.end <= range.first)
      throw bad_input("steps {}..{} of a sequence are no range to take the cost of", range.first, range.end);
    else if (range.first + 1 < table.contexts.front() || range.end > table.contexts.back())
      throw bad_input(
          "steps see {} to {} positions, the cost table ({}) covers {} to {}: measure these contexts too, or "
          "take the cost on other lengths",
          range.first + 1, range.end, table.device, table.contexts.front(), table.contexts.back());
}

// Nanoseconds of all steps; time(context) in milliseconds.
template <class Time>
long long sum(std::span<const config::StepRange> sequences, Time time) {
  long long total = 0;
  for (const auto& range : sequences)
    for (int t = range.first; t < range.end; ++t) total += nanoseconds(time(t + 1));
  return total;
}

}  // namespace

CostTable read_cost_table(const std::string& path) {
  Json json;
  try {
    json = Json::parse(read_file(path));
  } catch (const Json::exception& e) {
    throw bad_input("{}: not JSON: {}", path, e.what());
  }
  const Fields f(json, path, "",
                 {"format", "schema_version", "tool_version", "command", "seed", "created", "device", "batch",
                  "contexts", "k_pages", "full_ms", "delta_ms", "sparse_ms", "other_ms"});
  if (f.text("format") != format_name) throw f.wrong("format", fmt::format("\"{}\"", format_name));
  if (f.integer("schema_version", 1) != schema_version)
    throw f.wrong("schema_version", fmt::format("{}", schema_version));
  CostTable table;
  table.device = f.text("device");
  table.batch = f.integer("batch", 1);
  table.contexts = ascending(f, "contexts");
  table.k_pages = ascending(f, "k_pages");
  const size_t n = table.contexts.size();
  table.full_ms = times(f, "full_ms", n);
  table.delta_ms = times(f, "delta_ms", n);
  table.other_ms = times(f, "other_ms", n);
  if (f.array("sparse_ms").size() != n) throw f.wrong("sparse_ms", fmt::format("{} rows, one a context", n));
  for (const Json& row : f.array("sparse_ms"))
    table.sparse_ms.push_back(times(f, "sparse_ms", row, table.k_pages.size()));
  return table;
}

void write_cost_table(const CostTable& table, const std::string& path, Existing existing,
                      const Provenance& made) {
  Json json = artefact_head(format_name, schema_version, made);
  json["device"] = table.device;
  json["batch"] = table.batch;
  json["contexts"] = table.contexts;
  json["k_pages"] = table.k_pages;
  json["full_ms"] = table.full_ms;
  json["delta_ms"] = table.delta_ms;
  json["sparse_ms"] = table.sparse_ms;
  json["other_ms"] = table.other_ms;
  write_file_atomically(path, json.dump(1) + "\n", existing);
}

LayerCosts layer_costs(const CostTable& table, std::span<const config::StepRange> sequences,
                       std::span<const int> k_pages) {
  check_covers(table, sequences);
  const auto at = [&](const std::vector<double>& row) {
    return [&](int context) { return interpolated(row, place(table.contexts, context)); };
  };
  LayerCosts costs;
  costs.full = sum(sequences, at(table.full_ms));
  costs.delta = sum(sequences, at(table.delta_ms));
  int longest = 0;
  for (const auto& range : sequences) longest = std::max(longest, range.end);
  for (const int k : k_pages) {
    const bool sparse_somewhere = pages_for(longest) > k;
    if (sparse_somewhere && (k < table.k_pages.front() || k > table.k_pages.back()))
      throw bad_input(
          "K = {} pages: the cost table ({}) covers {} to {}; measure this K too, or leave it out", k,
          table.device, table.k_pages.front(), table.k_pages.back());
    const Place k_place = sparse_somewhere ? place(table.k_pages, k) : Place{};
    costs.sparse.push_back(sum(sequences, [&](int context) {
      const Place at_context = place(table.contexts, context);
      return pages_for(context) <= k ? interpolated(table.full_ms, at_context)
                                     : interpolated(table.sparse_ms, at_context, k_place);
    }));
  }
  return costs;
}

long long ms_budget(const CostTable& table, std::span<const config::StepRange> sequences, double ms) {
  check_covers(table, sequences);
  const long long other = sum(
      sequences, [&](int context) { return interpolated(table.other_ms, place(table.contexts, context)); });
  long long n_steps = 0;
  for (const auto& range : sequences) n_steps += range.end - range.first;
  const auto all = static_cast<long long>(std::floor(static_cast<long double>(ms) * 1e6L * n_steps));
  if (all <= other)
    throw bad_input("a step of {} ms: what no schedule changes takes {:.4g} ms alone (cost table, {})", ms,
                    static_cast<double>(other) / static_cast<double>(n_steps) / 1e6, table.device);
  return all - other;
}

}  // namespace deltacal::calib
