#include "calib/validation_json.h"

#include "calib/json.h"

namespace deltacal::calib {
namespace {

using Json = nlohmann::ordered_json;

Json bound(const std::optional<double>& value) {
  return value ? json_number(*value) : Json();
}

Json to_json(const Estimate& estimate) {
  return {{"mean", json_number(estimate.mean)}, {"low", bound(estimate.low)}, {"high", bound(estimate.high)}};
}

Json to_json(const Scores& scores) {
  Json kl = to_json(scores.kl);
  kl["median"] = json_number(scores.kl_median);
  kl["p99"] = json_number(scores.kl_p99);
  return {{"n_steps", scores.n_steps},          {"n_samples", scores.n_samples},
          {"n_problems", scores.n_problems},    {"nll", json_number(scores.nll)},
          {"nll_gap", to_json(scores.nll_gap)}, {"kl", kl},
          {"top1", json_number(scores.top1)}};
}

Json to_json(const Bin& bin) {
  Json out = {{"from", bin.from}, {"to", bin.to}};
  out.update(to_json(bin.active));
  out["all"] = to_json(bin.all);
  return out;
}

Json to_json(const SampleScores& scores) {
  return {{"nll_full", json_number(scores.nll_full)},
          {"nll", json_number(scores.nll)},
          {"kl", json_number(scores.kl)},
          {"top1", json_number(scores.top1)}};
}

Json to_json(const SampleRow& sample) {
  Json out = {{"id", sample.id}, {"problem", sample.problem}, {"active_steps", sample.active_steps}};
  out.update(to_json(sample.active));
  out["all"] = to_json(sample.all);
  return out;
}

Json to_json(const PolicyResult& policy) {
  Json out = {{"name", policy.name},
              {"attended_ratio", json_number(policy.attended_ratio)},
              {"active", to_json(policy.active)},
              {"all", to_json(policy.all)},
              {"vs_delta", policy.vs_delta ? to_json(*policy.vs_delta) : Json()},
              {"bins", Json::array()},
              {"samples", Json::array()},
              {"samples_without_active", policy.samples_without_active},
              {"recall", Json::array()}};
  for (const Bin& bin : policy.bins) out["bins"].push_back(to_json(bin));
  for (const SampleRow& sample : policy.samples) out["samples"].push_back(to_json(sample));
  for (const auto& [layer, estimate] : policy.recall) {
    Json row = {{"layer", layer}};
    row.update(to_json(estimate));
    out["recall"].push_back(row);
  }
  return out;
}

// The limit as it was asked, all digits.
Json to_json(const ThresholdResult& threshold) {
  return {{"name", threshold.name},
          {"limit", threshold.limit},
          {"value", json_number(threshold.value)},
          {"bound", bound(threshold.bound)},
          {"met", threshold.met}};
}

}  // namespace

Json to_json(const Validation& validation, const Provenance& provenance) {
  Json out = artefact_head("deltacal-validation", 1, provenance);
  out["model"] = json_model(validation.model);
  say_device(out, validation.model);
  out["config"] = {{"path", validation.config_path},
                   {"sha256", validation.config_sha256},
                   {"schedule", validation.schedule}};
  out["data"] = {{"path", validation.data_path}, {"sha256", validation.data_sha256}};
  out["max_tokens"] = validation.max_tokens > 0 ? Json(validation.max_tokens) : Json();
  out["pack"] = validation.pack > 0 ? Json(validation.pack) : Json();
  out["n_samples"] = validation.n_samples;
  out["n_problems"] = validation.n_problems;
  out["unit"] = "nats a token";
  const std::string& reason = validation.no_interval_reason;
  out["interval"] = {{"method", "percentile bootstrap over problems"},
                     {"resamples", validation.bootstrap.resamples},
                     {"confidence", validation.bootstrap.confidence},
                     {"seed", validation.bootstrap.seed},
                     {"reason", reason.empty() ? Json() : Json(reason)}};
  out["policies"] = Json::array();
  for (const PolicyResult& policy : validation.policies) out["policies"].push_back(to_json(policy));
  Json thresholds = Json::array();
  for (const ThresholdResult& threshold : validation.thresholds) thresholds.push_back(to_json(threshold));
  out["verdict"] = {{"passed", validation.passed ? Json(*validation.passed) : Json()},
                    {"thresholds", thresholds}};
  return out;
}

}  // namespace deltacal::calib
