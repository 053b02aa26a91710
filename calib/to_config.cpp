#include "calib/to_config.h"

#include <cassert>
#include <cmath>
#include <limits>
#include <set>

#include "calib/json.h"
#include "core/error.h"

namespace deltacal::calib {
namespace {

using Json = nlohmann::ordered_json;
using config::Role;

std::optional<double> known(double value) {
  return std::isnan(value) ? std::nullopt : std::optional<double>(value);
}

// Sparse layers whose K and L were measured, with the recall of their edge: of lists by DELTA's score, made at
// every step, so that of other lists none is known.
std::vector<config::LayerRecall> recall_of(const config::Schedule& schedule, const EdgeCosts& edges) {
  std::vector<config::LayerRecall> recall;
  if (schedule.page_score != PageScore::sum || config::keeps_lists(schedule)) return recall;
  for (int layer = 0; layer < edges.n_layers; ++layer) {
    const auto& plan = schedule.layers[layer];
    if (plan.role != Role::sparse) continue;
    const int source = config::source_of(schedule, layer), l_pages = schedule.layers[source].l_pages;
    const int k = edges.k_floor(plan.k_pages), l = edges.l_floor(l_pages);
    if (k < 0 || l < 0 || edges.k_pages[k] != plan.k_pages || edges.l_pages[l] != l_pages) continue;
    const size_t edge = edges.at(layer, source, k, l);
    if (std::isnan(edges.recall_mean[edge])) continue;
    recall.push_back(
        {layer, {edges.recall_mean[edge], known(edges.recall_low[edge]), known(edges.recall_high[edge])}});
  }
  return recall;
}

double mean_recall(const std::vector<config::LayerRecall>& recall) {
  double sum = 0;
  for (const auto& layer : recall) sum += layer.recall.mean;
  return recall.empty() ? std::numeric_limits<double>::quiet_NaN() : sum / static_cast<double>(recall.size());
}

double ratio_of(const Choice& choice, const StepCosts& costs) {
  const auto all = static_cast<double>(costs.full()) * static_cast<double>(choice.schedule.layers.size());
  return all / static_cast<double>(choice.attended);
}

// None with adaptive refresh: a run alone tells it.
std::map<std::string, double> expected_ratios(const config::Schedule& schedule, int max_context, int own) {
  if (schedule.refresh) return {};
  std::set<int> contexts;
  for (int context : {2048, 8192, 32768})
    if (max_context <= 0 || context <= max_context) contexts.insert(context);
  if (contexts.empty()) contexts.insert(max_context);
  if (own > 0) contexts.insert(own);
  std::map<std::string, double> ratios;
  for (int context : contexts)
    ratios[std::to_string(context)] = config::attended_ratio(schedule, {{0, context}});
  return ratios;
}

Json alternative(const Choice& choice, const EdgeCosts& edges, const StepCosts& costs) {
  Json deltas = Json::array();
  for (size_t layer = 0; layer < choice.schedule.layers.size(); ++layer)
    if (choice.schedule.layers[layer].role == Role::delta) deltas.push_back(layer);
  return {{"method", choice.method},
          {"schedule", config::describe(choice.schedule)},
          {"delta_layers", deltas},
          {"attended_ratio", json_number(ratio_of(choice, costs))},
          {"loss", json_number(choice.loss)},
          {"mean_recall", json_number(mean_recall(recall_of(choice.schedule, edges)))}};
}

Json provenance(std::span<const Choice> choices, const EdgeCosts& edges, const StepCosts& costs,
                const CalibrationRecord& record) {
  Json samples = Json::array(), alternatives = Json::array();
  for (const auto& sample : record.samples) samples.push_back(json_sample(sample));
  for (const Choice& choice : choices) alternatives.push_back(alternative(choice, edges, costs));
  return {
      {"trace", {{"path", record.trace_path}, {"sha256", record.trace_sha256}}},
      {"samples", samples},
      {"method", choices[0].method},
      {"objective", record.objective},
      {"objective_reason", record.objective_reason},
      {"aggregate", record.aggregate},
      {"order", record.order},
      {"budget", record.budget},
      {"lengths", record.context > 0 ? "steps 0 to " + std::to_string(record.context - 1) + " of one sequence"
                  : choices[0].schedule.refresh
                      ? "the calibration samples' own, with the lists of full attention's queries"
                      : "the calibration samples' own"},
      {"attended_ratio", json_number(ratio_of(choices[0], costs))},
      {"loss", json_number(choices[0].loss)},
      {"k_pages", edges.k_pages},
      {"l_pages", edges.l_pages},
      {"seed", record.seed},
      {"alternatives", alternatives}};
}

}  // namespace

Json json_sample(const CalibrationSample& sample) {
  Json json{{"id", sample.id}, {"task", sample.task}, {"problem", sample.problem}, {"sha256", sample.sha256}};
  if (!sample.parts.empty()) json["parts"] = sample.parts;
  return json;
}

config::Config to_config(std::span<const Choice> choices, const ModelInfo& model, const EdgeCosts& edges,
                         const StepCosts& costs, const CalibrationRecord& record) {
  assert(!choices.empty());
  config::Config config;
  config.model = model;
  config.schedule = choices[0].schedule;
  config.expected.recall = recall_of(config.schedule, edges);
  config.expected.attended_ratio = expected_ratios(config.schedule, model.max_context, record.context);
  config.provenance = provenance(choices, edges, costs, record);
  return config;
}

std::vector<SplitSample> calibrated_on(const config::Config& config, const std::string& where) {
  std::vector<SplitSample> samples;
  const auto read = [&](const Json& list, const char* name) {
    const auto text = [&](const Json& sample, const char* field) {
      if (!sample.contains(field)) return std::string();
      if (!sample[field].is_string()) throw bad_input("{}: {}[].{} is not a text", where, name, field);
      return sample[field].get<std::string>();
    };
    const auto parts = [&](const Json& sample) {
      std::vector<std::string> problems;
      for (const Json& part : sample.value("parts", Json::array())) {
        if (!part.is_string()) throw bad_input("{}: {}[].parts is not a list of texts", where, name);
        problems.push_back(part);
      }
      return problems;
    };
    if (!list.is_array()) throw bad_input("{}: {} is not a list", where, name);
    for (const Json& sample : list) {
      if (!sample.is_object()) throw bad_input("{}: {} holds something that is no sample", where, name);
      samples.push_back(
          {text(sample, "task"), text(sample, "problem"), text(sample, "sha256"), parts(sample)});
    }
  };
  const Json& made = config.provenance;
  if (!made.is_object()) return samples;
  if (made.contains("samples")) read(made["samples"], "provenance.samples");
  // What the choice was measured on: as little held out as what it was made from.
  if (made.contains("development") && made["development"].is_object() &&
      made["development"].contains("samples"))
    read(made["development"]["samples"], "provenance.development.samples");
  return samples;
}

}  // namespace deltacal::calib
