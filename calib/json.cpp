#include "calib/json.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>

namespace deltacal::calib {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const RowEstimate& row) {
  return {{"mean", json_row(row.mean)}, {"low", json_row(row.low)}, {"high", json_row(row.high)}};
}

Json to_json(const MatrixEstimate& matrix) {
  return {
      {"matrix", json_rows(matrix.mean)}, {"low", json_rows(matrix.low)}, {"high", json_rows(matrix.high)}};
}

// `first` and then the fields of `rest`.
Json joined(Json first, const Json& rest) {
  first.update(rest);
  return first;
}

Json to_json(const RecallAnalysis& recall) {
  const Json head = {{"k_pages", recall.budget.k_pages},  {"l_pages", recall.budget.l_pages},
                     {"unit", "share of attention mass"}, {"n_samples", recall.n_samples},
                     {"n_problems", recall.n_problems},   {"n_steps", recall.n_steps}};
  Json out = joined(head, to_json(recall.recall));
  out["worst_step"] = json_rows(recall.worst_step);
  out["p05"] = json_rows(recall.p05);
  out["over_oracle"] = json_rows(recall.over_oracle);
  out["worst_kv_head"] = recall.worst_kv_head ? json_rows(*recall.worst_kv_head) : Json();
  return out;
}

Json to_json(const HalfLifeAnalysis& half_life) {
  Json layers = Json::array();
  for (std::size_t layer = 0; layer < half_life.layers.size(); ++layer) {
    const auto [lag, greater_than] = half_life.layers[layer];
    layers.push_back({{"layer", layer},
                      {"lag", lag ? Json(*lag) : Json()},
                      {"greater_than", greater_than ? Json(*greater_than) : Json()}});
  }
  return {{"k_pages", half_life.budget.k_pages},
          {"l_pages", half_life.budget.l_pages},
          {"window_recall", json_row(half_life.window_recall)},
          {"layers", layers}};
}

}  // namespace

Json json_model(const ModelInfo& model) {
  return {{"name", model.name},        {"architecture", model.architecture},
          {"sha256", model.sha256},    {"n_layers", model.n_layers},
          {"n_heads", model.n_heads},  {"n_kv_heads", model.n_kv_heads},
          {"head_dim", model.head_dim}};
}

void say_device(Json& artefact, const ModelInfo& model) {
  if (model.device.empty()) return;
  artefact["device"] = model.device;
  artefact["dtype"] = model.dtype;
}

Json json_number(double value) {
  if (!std::isfinite(value)) return nullptr;
  return std::strtod(fmt::format("{:.6g}", value).c_str(), nullptr);
}

Json json_row(const Eigen::Ref<const Eigen::VectorXd>& values) {
  Json out = Json::array();
  for (const double value : values) out.push_back(json_number(value));
  return out;
}

Json json_rows(const Eigen::Ref<const Eigen::MatrixXd>& matrix) {
  Json out = Json::array();
  for (Eigen::Index row = 0; row < matrix.rows(); ++row) out.push_back(json_row(matrix.row(row).transpose()));
  return out;
}

Json to_json(const Analysis& analysis, const Provenance& provenance) {
  Json out = artefact_head("deltacal-analysis", 1, provenance);
  out["model"] = json_model(analysis.model);
  say_device(out, analysis.model);
  out["trace"] = {{"path", analysis.trace_path}, {"sha256", analysis.trace_sha256}};
  out["n_samples"] = analysis.n_samples;
  out["n_problems"] = analysis.n_problems;
  out["n_steps"] = analysis.n_steps;
  out["interval"] = {
      {"method", "percentile bootstrap over problems"},
      {"resamples", analysis.bootstrap.resamples},
      {"confidence", analysis.bootstrap.confidence},
      {"seed", analysis.bootstrap.seed},
      {"reason", analysis.no_interval_reason.empty() ? Json() : Json(analysis.no_interval_reason)}};
  out["k_pages"] = analysis.grid.k_pages;
  out["l_pages"] = analysis.grid.l_pages;
  for (const char* list : {"recall", "oracle_recall", "predicted_kl"}) out[list] = Json::array();
  for (const RecallAnalysis& recall : analysis.recall) out["recall"].push_back(to_json(recall));
  for (const PredictedKlAnalysis& kl : analysis.predicted_kl)
    out["predicted_kl"].push_back(joined({{"k_pages", kl.budget.k_pages},
                                          {"l_pages", kl.budget.l_pages},
                                          {"unit", "nats a token"},
                                          {"n_samples", analysis.n_samples},
                                          {"n_problems", analysis.n_problems}},
                                         to_json(kl.kl)));
  for (const OracleAnalysis& oracle : analysis.oracle)
    out["oracle_recall"].push_back(joined({{"k_pages", oracle.k_pages}}, to_json(oracle.recall)));
  const CorrelationAnalysis& correlation = analysis.correlation;
  out["correlation"] = {{"k_pages", correlation.budget.k_pages},
                        {"l_pages", correlation.budget.l_pages},
                        {"cosine", to_json(correlation.cosine)},
                        {"pearson", to_json(correlation.pearson)},
                        {"jaccard", to_json(correlation.jaccard)}};
  out["layer_drift"] = to_json(analysis.layer_drift);
  out["step_drift"] = to_json(analysis.step_drift);
  out["stale_recall"] = Json::array();
  for (const StaleAnalysis& stale : analysis.stale) {
    Json entry =
        joined({{"lag", stale.lag}, {"k_pages", stale.budget.k_pages}, {"l_pages", stale.budget.l_pages}},
               to_json(stale.recall));
    entry["n_samples"] = stale.n_samples;
    out["stale_recall"].push_back(entry);
  }
  out["half_life"] = to_json(analysis.half_life);
  return out;
}

}  // namespace deltacal::calib
