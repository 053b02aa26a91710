#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "config/config.h"
#include "core/error.h"
#include "core/hash.h"
#include "model/gguf.h"
#include "model/model.h"
#include "options.h"
#include "trace/trace.h"

namespace deltacal::tools {
namespace {

using Json = nlohmann::ordered_json;

Json of_model_info(const ModelInfo& m) {
  return {{"name", m.name},         {"architecture", m.architecture}, {"sha256", m.sha256},
          {"n_layers", m.n_layers}, {"n_heads", m.n_heads},           {"n_kv_heads", m.n_kv_heads},
          {"head_dim", m.head_dim}, {"max_context", m.max_context}};
}

Json of_model(const std::string& path) {
  const model::Gguf file(path);
  const model::Header header = model::read_header(path);
  const model::Description& d = header.description;
  std::map<std::string, int> types;
  for (const auto& [name, tensor] : file.tensors()) ++types[model::type_name(tensor.type)];
  Json json{{"kind", "model (GGUF)"}, {"version", file.version()}};
  json.update(of_model_info(d.info));
  json.update(Json{{"n_embd", d.n_embd},
                   {"n_ff", d.n_ff},
                   {"n_vocab", d.n_vocab},
                   {"rope_base", d.rope.base},
                   {"rope_scaling", model::name_of(d.rope.scaling)},
                   {"qkv_bias", d.qkv_bias},
                   {"tied_output", d.tied_output},
                   {"tensors", types},
                   {"tokenizer", header.vocabulary.model + " / " + header.vocabulary.pre}});
  return json;
}

// The grid of the predicted KL and its sets of labels; null without.
Json sensitivity_of(const trace::Reader& trace, int sample) {
  if (!trace.has_sensitivity(sample)) return nullptr;
  const trace::EdgeSensitivity edges = trace.sensitivity(sample);
  std::set<int> k, l;
  for (const PageBudget& b : edges.budgets) k.insert(b.k_pages), l.insert(b.l_pages);
  Json rankings = Json::array({name_of(Ranking{})});
  for (const auto& other : edges.rankings) rankings.push_back(name_of(other.ranking));
  return {{"k_pages", k}, {"l_pages", l}, {"labels", edges.n_gradients}, {"rankings", rankings}};
}

Json of_trace(const std::string& path) {
  const trace::Reader trace(path);
  Json json{{"kind", "trace"}, {"model", of_model_info(trace.model())}, {"dtype", trace.model().dtype}};
  if (!trace.model().device.empty()) json["device"] = trace.model().device;
  json["command"] = trace.provenance().command;
  json["n_samples"] = trace.n_samples();
  json["samples"] = Json::array();
  for (int i = 0; i < trace.n_samples(); ++i) {
    const trace::SampleInfo& s = trace.info(i);
    json["samples"].push_back({{"id", s.id},
                               {"task", s.task},
                               {"mode", s.mode},
                               {"n_tokens", s.n_tokens},
                               {"n_prompt_tokens", s.n_prompt_tokens},
                               {"n_packed", s.parts.size()},
                               {"n_steps", trace.steps(i).size()},
                               {"group_mass", trace.has_group_mass(i)},
                               {"sensitivity", sensitivity_of(trace, i)}});
  }
  return json;
}

// The schedules of a transfer, what they were measured on, and their mean NLL gaps there.
Json of_transfer(const Json& json) {
  Json out;
  const auto& schedules = json.at("schedules");
  const auto& measured = json.at("measured_on");
  for (const auto& schedule : schedules)
    out["schedules"].push_back({{"calibrated_on", schedule.at("task")},
                                {"n_samples", schedule.at("n_samples")},
                                {"n_problems", schedule.at("n_problems")},
                                {"schedule", schedule.at("schedule")},
                                {"attended_ratio", schedule.at("attended_ratio")}});
  for (const auto& task : measured)
    out["measured_on"].push_back({{"task", task.at("task")},
                                  {"n_samples", task.at("n_samples")},
                                  {"n_problems", task.at("n_problems")}});
  for (size_t i = 0; i < schedules.size(); ++i) {
    Json gaps = Json::object();
    for (size_t j = 0; j < measured.size(); ++j)
      gaps[measured.at(j).at("task").get<std::string>()] =
          json.at("matrix").at(i).at(j).at("nll_gap").at("mean");
    out["nll_gap"].push_back({{"calibrated_on", schedules.at(i).at("task")}, {"measured_on", gaps}});
  }
  return out;
}

Json of_artefact(const std::string& path) {
  Json json;
  try {
    json = Json::parse(read_file(path));
  } catch (const nlohmann::json::parse_error&) {
    throw bad_input("{} is no model (GGUF), no trace (HDF5) and no JSON artefact of deltacal", path);
  }
  const std::string format =
      json.is_object() && json.contains("format") && json["format"].is_string() ? json["format"] : "";
  if (!format.starts_with("deltacal-"))
    throw bad_input("{} is JSON, but no artefact of deltacal: its field \"format\" is missing or another's",
                    path);
  Json out{{"kind", format.substr(9)}};
  for (const char* field :
       {"schema_version", "tool_version", "command", "seed",      "created", "model",     "trace",
        "data",           "max_tokens",   "pack",    "device",    "dtype",   "batch",     "contexts",
        "k_pages",        "budget",       "context", "objective", "unit",    "n_samples", "n_problems",
        "n_steps",        "interval",     "winner",  "verdict"})
    if (json.contains(field)) out[field] = json[field];
  if (format == "deltacal-config") {
    const config::Config c = config::read(path);
    out["schedule"] = config::describe(c.schedule);
    out["expected"] = json["expected"];
  }
  if (format == "deltacal-validation")
    for (const auto& policy : json["policies"])
      out["policies"].push_back({{"name", policy["name"]},
                                 {"attended_ratio", policy["attended_ratio"]},
                                 {"nll_gap", policy["active"]["nll_gap"]}});
  if (format == "deltacal-compare") {
    for (const auto& method : json["methods"])
      out["methods"].push_back({{"name", method["name"]},
                                {"schedule", method["schedule"]},
                                {"attended_ratio", method["attended_ratio"]},
                                {"nll_gap", method["nll_gap"]},
                                {"vs_winner", method["vs_winner"]}});
    for (const auto& surrogate : json["surrogates"])
      out["surrogates"].push_back({{"name", surrogate["name"]}, {"spearman", surrogate["spearman"]}});
  }
  if (format == "deltacal-transfer") out.update(of_transfer(json));
  return out;
}

void print(const Json& json, int indent) {
  for (const auto& [key, value] : json.items()) {
    const std::string name = std::string(indent, ' ') + key;
    if (value.is_object()) {
      fmt::print("{}\n", name);
      print(value, indent + 2);
    } else if (value.is_array() && !value.empty() && value[0].is_object()) {
      for (const auto& element : value) {
        fmt::print("{}\n", name);
        print(element, indent + 2);
      }
    } else {
      fmt::print("{:<24}{}\n", name, value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
}

}  // namespace

int inspect(const InspectOptions& o) {
  char magic[8] = {};
  std::ifstream in(o.file, std::ios::binary);
  if (!in) throw bad_input("cannot read {}", o.file);
  in.read(magic, sizeof magic);
  const std::string_view start(magic, sizeof magic);
  const Json json = start.starts_with("GGUF")          ? of_model(o.file)
                    : start.starts_with("\x89HDF\r\n") ? of_trace(o.file)
                                                       : of_artefact(o.file);
  if (o.json) {
    fmt::print("{}\n", json.dump(2));
  } else {
    print(json, 0);
  }
  return 0;
}

}  // namespace deltacal::tools
