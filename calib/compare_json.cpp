#include "calib/compare_json.h"

#include "calib/estimate_json.h"
#include "calib/json.h"
#include "calib/prediction_json.h"

namespace deltacal::calib {
namespace {

using Json = nlohmann::ordered_json;

Json or_null(int value) {
  return value > 0 ? Json(value) : Json();
}

Json known(const std::optional<Estimate>& estimate) {
  return estimate ? json_estimate(*estimate) : Json();
}

Json to_json(const MethodRow& row) {
  return {{"name", row.name},
          {"schedule", row.schedule},
          {"delta_layers", row.delta_layers},
          {"attended_ratio", json_number(row.attended_ratio)},
          {"attended_ratio_measured", json_number(row.attended_ratio_measured)},
          {"predicted_kl", json_number(row.predicted_kl)},
          {"recall", json_number(row.recall)},
          {"nll_gap", json_estimate(row.nll_gap)},
          {"kl", json_estimate(row.kl)},
          {"vs_winner", known(row.vs_winner)},
          {"n_samples", row.nll_gap.n_samples},
          {"n_problems", row.nll_gap.n_problems},
          {"seconds", json_number(row.seconds)}};
}

Json to_json(const SurrogateRow& row) {
  return {{"name", row.name},
          {"spearman", json_estimate(row.rank.spearman)},
          {"kendall", json_number(row.rank.kendall)},
          {"n_schedules", row.rank.n_schedules}};
}

Json to_json(const ParetoRow& row) {
  return {{"budget", json_number(row.budget)},
          {"attended_ratio", json_number(row.attended_ratio)},
          {"predicted_kl", json_number(row.predicted_kl)},
          {"recall", json_number(row.recall)},
          {"schedule", row.schedule},
          {"delta_layers", row.delta_layers},
          {"nll_gap", known(row.nll_gap)},
          {"kl", known(row.kl)}};
}

template <class Row>
Json rows_of(const std::vector<Row>& rows) {
  Json out = Json::array();
  for (const Row& row : rows) out.push_back(to_json(row));
  return out;
}

Json layers_of(const Stability& stability) {
  Json out = Json::array();
  for (std::size_t layer = 0; layer < stability.share.size(); ++layer)
    out.push_back({{"layer", layer}, {"share", json_number(stability.share[layer])}});
  return out;
}

}  // namespace

Json to_json(const MethodComparison& comparison, const Provenance& provenance) {
  const auto text = [](const std::string& value) { return value.empty() ? Json() : Json(value); };
  const Stability& stability = comparison.stability;
  Json out = artefact_head("deltacal-compare", 1, provenance);
  out["model"] = json_model(comparison.model);
  say_device(out, comparison.model);
  out["trace"] = {{"path", comparison.trace_path}, {"sha256", comparison.trace_sha256}};
  out["data"] = {{"path", comparison.data_path}, {"sha256", comparison.data_sha256}};
  out["max_tokens"] = or_null(comparison.max_tokens);
  out["pack"] = or_null(comparison.pack);
  out["budget"] = comparison.budget;
  out["context"] = or_null(comparison.context);
  out["objective"] = comparison.objective;
  out["n_samples"] = comparison.n_samples;
  out["n_problems"] = comparison.n_problems;
  out["unit"] = "nats a token";
  out["interval"] = json_interval(comparison.bootstrap, comparison.no_interval_reason);
  out["winner"] = comparison.winner;
  out["methods"] = rows_of(comparison.methods);
  out["surrogates"] = rows_of(comparison.surrogates);
  out["prediction"] = comparison.prediction ? to_json(*comparison.prediction) : Json();
  out["stability"] = layers_of(stability);
  out["stability_of"] = {{"resamples", stability.resamples},
                         {"unsolved", stability.unsolved},
                         {"reason", text(stability.reason)}};
  out["pareto"] = rows_of(comparison.pareto);
  return out;
}

}  // namespace deltacal::calib
