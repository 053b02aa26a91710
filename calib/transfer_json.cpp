#include "calib/transfer_json.h"

#include "calib/estimate_json.h"
#include "calib/json.h"

namespace deltacal::calib {
namespace {

using Json = nlohmann::ordered_json;

Json or_null(int value) {
  return value > 0 ? Json(value) : Json();
}
Json or_null(const std::string& text) {
  return text.empty() ? Json() : Json(text);
}

Json to_json(const SampleCounts& counts) {
  return {{"task", counts.task},
          {"n_samples", counts.n_samples},
          {"n_problems", counts.n_problems},
          {"n_packed", counts.n_packed},
          {"mean_tokens", json_number(counts.mean_tokens)}};
}

Json to_json(const TransferSchedule& schedule) {
  Json deltas = Json::array();
  for (std::size_t layer = 0; layer < schedule.schedule.layers.size(); ++layer)
    if (schedule.schedule.layers[layer].role == config::Role::delta) deltas.push_back(layer);
  Json out = to_json(schedule.on);
  out["schedule"] = config::describe(schedule.schedule);
  out["delta_layers"] = deltas;
  out["attended_ratio"] = json_number(schedule.attended_ratio);
  out["loss"] = json_number(schedule.loss);
  return out;
}

Json to_json(const MeasuredTask& measured) {
  Json out = to_json(measured.samples);
  out["reason"] = or_null(measured.no_interval_reason);
  return out;
}

Json to_json(const TransferCell& cell) {
  return {{"attended_ratio", json_number(cell.attended_ratio)},
          {"nll_gap", json_estimate(cell.nll_gap)},
          {"kl", json_estimate(cell.kl)},
          {"vs_own", cell.vs_own ? json_estimate(*cell.vs_own) : Json()}};
}

Json to_json(const CurveRow& row) {
  return {{"n_samples", row.n_samples},      {"n_steps", row.n_steps},
          {"n_draws", row.n_draws},          {"n_unsolved", row.n_unsolved},
          {"n_schedules", row.n_schedules},  {"nll_gap", json_estimate(row.nll_gap)},
          {"kl", json_estimate(row.kl)},     {"vs_all", json_estimate(row.vs_all)},
          {"least", json_number(row.least)}, {"largest", json_number(row.largest)}};
}

template <class Row>
Json rows_of(const std::vector<Row>& rows) {
  Json out = Json::array();
  for (const Row& row : rows) out.push_back(to_json(row));
  return out;
}

}  // namespace

Json to_json(const Transfer& transfer, const Provenance& provenance) {
  Json out = artefact_head("deltacal-transfer", 1, provenance);
  out["model"] = json_model(transfer.model);
  say_device(out, transfer.model);
  out["trace"] = {{"path", transfer.trace_path}, {"sha256", transfer.trace_sha256}};
  out["data"] = {{"path", transfer.data_path}, {"sha256", transfer.data_sha256}};
  out["max_tokens"] = or_null(transfer.max_tokens);
  out["pack"] = or_null(transfer.pack);
  out["budget"] = transfer.budget;
  out["context"] = or_null(transfer.context);
  out["objective"] = transfer.objective;
  out["unit"] = "nats a token";
  out["interval"] = json_interval(transfer.bootstrap, transfer.measured_on.back().no_interval_reason);
  out["schedules"] = rows_of(transfer.schedules);
  out["measured_on"] = rows_of(transfer.measured_on);
  out["matrix"] = Json::array();
  for (const auto& row : transfer.matrix) out["matrix"].push_back(rows_of(row));
  out["learning_curve"] = rows_of(transfer.learning_curve);
  out["curve_reason"] = or_null(transfer.curve_reason);
  return out;
}

}  // namespace deltacal::calib
