#include "config/config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <set>
#include <utility>

#include "config/fields.h"
#include "core/error.h"

namespace deltacal::config {
namespace {

constexpr const char* format_name = "deltacal-config";
constexpr int schema_version = 1;
constexpr std::array<std::pair<Role, const char*>, 3> roles{
    {{Role::full, "full"}, {Role::delta, "delta"}, {Role::sparse, "sparse"}}};

const char* name_of(Role role) {
  return std::ranges::find(roles, role, &std::pair<Role, const char*>::first)->second;
}

ModelInfo read_model(const Json& json, const std::string& file) {
  const Fields f(json, file, "model",
                 {"name", "architecture", "sha256", "n_layers", "n_heads", "n_kv_heads", "head_dim"});
  ModelInfo model;
  model.name = f.text_or("name", "");
  model.architecture = f.text("architecture");
  model.sha256 = f.text_or("sha256", "");
  model.n_layers = f.integer("n_layers", 1);
  model.n_heads = f.integer("n_heads", 1);
  model.n_kv_heads = f.integer("n_kv_heads", 1);
  model.head_dim = f.integer("head_dim", 1);
  if (model.n_heads % model.n_kv_heads != 0)
    throw bad_input("{}: model.n_heads {} is no multiple of model.n_kv_heads {}", file, model.n_heads,
                    model.n_kv_heads);
  return model;
}

// One layer as it stands; k_pages 0 where it is left to its default.
LayerPlan read_layer(const Json& json, const std::string& file, const std::string& path) {
  const Fields f(json, file, path, {"role", "k_pages", "l_pages"});
  const std::string role = f.text("role");
  const auto found = std::ranges::find(roles, role, &std::pair<Role, const char*>::second);
  if (found == roles.end()) throw f.wrong("role", "\"full\", \"delta\" or \"sparse\"");
  LayerPlan layer{.role = found->first};
  if (f.has("k_pages") && layer.role == Role::full)
    throw bad_input("{}: {} belongs to delta and sparse layers; a full layer attends to all pages", file,
                    f.path_of("k_pages"));
  if (f.has("l_pages") && layer.role != Role::delta)
    throw bad_input("{}: {} belongs to delta layers alone", file, f.path_of("l_pages"));
  if (f.has("k_pages")) layer.k_pages = f.integer("k_pages", 1);
  if (layer.role == Role::delta) layer.l_pages = f.integer("l_pages", 1);
  return layer;
}

// A list without a length is as long as the largest k that it serves; a sparse layer without one uses the
// whole list.
void fill_budgets(std::vector<LayerPlan>& layers, const std::string& file) {
  for (size_t d = 0; d < layers.size(); ++d) {
    if (layers[d].role != Role::delta) continue;
    size_t end = d + 1;
    while (end < layers.size() && layers[end].role != Role::delta) ++end;
    if (layers[d].k_pages == 0)
      for (size_t i = d + 1; i < end; ++i) layers[d].k_pages = std::max(layers[d].k_pages, layers[i].k_pages);
    if (layers[d].k_pages == 0)
      throw bad_input("{}: layers[{}].k_pages is missing, and no layer that it serves has one", file, d);
    for (size_t i = d + 1; i < end; ++i)
      if (layers[i].role == Role::sparse && layers[i].k_pages == 0) layers[i].k_pages = layers[d].k_pages;
  }
}

std::vector<LayerPlan> read_layers(const Json& array, const std::string& file, int n_layers) {
  std::vector<LayerPlan> layers;
  for (const Json& layer : array)
    layers.push_back(read_layer(layer, file, fmt::format("layers[{}]", layers.size())));
  if (layers.size() != static_cast<size_t>(n_layers))
    throw bad_input("{}: layers has {} entries, model.n_layers is {}", file, layers.size(), n_layers);
  fill_budgets(layers, file);
  return layers;
}

// Earlier versions had two more fields, which are accepted where they change nothing.
PageScore read_score(const Json& json, const std::string& file) {
  const Fields f(json, file, "score", {"page", "carry", "head_weights"});
  if (f.has("carry") && f.required("carry") != 0)
    throw bad_input("{}: score.carry is {}, not 0: {}; calibrate again", file, f.required("carry").dump(),
                    page_score_alone);
  if (f.has("head_weights") && !f.required("head_weights").is_null())
    throw bad_input("{}: score.head_weights is not null: {}; calibrate again", file, page_score_alone);
  const std::string page = f.text_or("page", name_of(PageScore::sum));
  if (page == name_of(PageScore::max)) return PageScore::max;
  if (page != name_of(PageScore::sum)) throw f.wrong("page", "\"sum\" or \"max\"");
  return PageScore::sum;
}

constexpr const char* query_cosine = "query-cosine";

std::optional<AdaptiveRefresh> read_refresh(const Json& json, const std::string& file) {
  if (json.is_null()) return std::nullopt;
  const Fields f(json, file, "refresh", {"signal", "threshold", "max_interval"});
  if (f.text("signal") != query_cosine) throw f.wrong("signal", fmt::format("\"{}\"", query_cosine));
  return AdaptiveRefresh{f.number("threshold"), f.integer("max_interval", 1)};
}

Interval read_interval(const Fields& f) {
  const auto bound = [&](const char* name) -> std::optional<double> {
    if (!f.has(name) || f.required(name).is_null()) return std::nullopt;
    return f.number(name);
  };
  return {f.number("mean"), bound("low"), bound("high")};
}

Expected read_expected(const Json& json, const std::string& file, int n_layers) {
  const Fields f(json, file, "expected", {"attended_ratio", "recall", "nll_gap"});
  Expected expected;
  if (f.has("attended_ratio")) {
    const Json& ratios = f.required("attended_ratio");
    if (!ratios.is_object()) throw f.wrong("attended_ratio", "an object of ratios by context length");
    for (const auto& [context, ratio] : ratios.items()) {
      int length = 0;
      const auto [end, error] = std::from_chars(context.data(), context.data() + context.size(), length);
      if (error != std::errc() || end != context.data() + context.size() || length < 1)
        throw bad_input("{}: expected.attended_ratio.{}: the name is a context length, such as 8192", file,
                        context);
      if (!ratio.is_number())
        throw bad_input("{}: expected.attended_ratio.{} is {}, expected a number", file, context,
                        ratio.dump());
      expected.attended_ratio[context] = ratio.get<double>();
    }
  }
  if (f.has("recall"))
    for (const Json& entry : f.array("recall")) {
      const auto path = fmt::format("expected.recall[{}]", expected.recall.size());
      const Fields layer(entry, file, path, {"layer", "mean", "low", "high"});
      expected.recall.push_back({layer.integer("layer", 0), read_interval(layer)});
      if (expected.recall.back().layer >= n_layers)
        throw layer.wrong("layer", fmt::format("a layer below {}", n_layers));
    }
  if (f.has("nll_gap") && !f.required("nll_gap").is_null())
    expected.nll_gap =
        read_interval(Fields(f.required("nll_gap"), file, "expected.nll_gap", {"mean", "low", "high"}));
  return expected;
}

Json optional_number(const std::optional<double>& value) {
  return value ? Json(*value) : Json();
}

Json to_json(const Interval& interval) {
  return {{"mean", interval.mean},
          {"low", optional_number(interval.low)},
          {"high", optional_number(interval.high)}};
}

Json to_json(const Expected& expected) {
  Json ratios = Json::object(), recalls = Json::array();
  for (const auto& [context, ratio] : expected.attended_ratio) ratios[context] = ratio;
  for (const LayerRecall& recall : expected.recall) {
    Json entry{{"layer", recall.layer}};
    entry.update(to_json(recall.recall));
    recalls.push_back(std::move(entry));
  }
  return {{"attended_ratio", ratios},
          {"recall", recalls},
          {"nll_gap", expected.nll_gap ? to_json(*expected.nll_gap) : Json()}};
}

Json to_json(const std::optional<AdaptiveRefresh>& refresh) {
  if (!refresh) return Json();
  return {{"signal", query_cosine}, {"threshold", refresh->threshold}, {"max_interval", refresh->max_interval}};
}

Json to_json(const LayerPlan& layer) {
  Json json{{"role", name_of(layer.role)}};
  if (layer.role != Role::full) json["k_pages"] = layer.k_pages;
  if (layer.role == Role::delta) json["l_pages"] = layer.l_pages;
  return json;
}

}  // namespace

Config read(const std::string& path) {
  const Json json = read_artefact(path, format_name, schema_version);
  const Fields f(
      json, path, "",
      {"format", "schema_version", "tool_version", "command", "seed", "created", "model", "page_size",
       "position_bias", "refresh_interval", "refresh", "score", "layers", "expected", "provenance"});
  if (const int size = f.integer("page_size", 1); size != page_size)
    throw bad_input("{}: page_size {} is not supported by this version, only {} is", path, size, page_size);
  Config config;
  config.model = read_model(f.required("model"), path);
  if (f.has("position_bias")) config.schedule.position_bias = f.number("position_bias");
  if (f.has("refresh_interval")) config.schedule.refresh_interval = f.integer("refresh_interval", 1);
  if (f.has("refresh")) config.schedule.refresh = read_refresh(f.required("refresh"), path);
  if (f.has("score")) config.schedule.page_score = read_score(f.required("score"), path);
  config.schedule.layers = read_layers(f.array("layers"), path, config.model.n_layers);
  check(config.schedule, path);
  if (f.has("expected")) config.expected = read_expected(f.required("expected"), path, config.model.n_layers);
  config.provenance = f.has("provenance") ? f.required("provenance") : Json::object();
  if (!config.provenance.is_object()) throw f.wrong("provenance", "an object");
  return config;
}

nlohmann::ordered_json to_json(const Config& config, const Provenance& made) {
  Json json = artefact_head(format_name, schema_version, made);
  const ModelInfo& model = config.model;
  json["model"] = {{"name", model.name},        {"architecture", model.architecture},
                   {"sha256", model.sha256},    {"n_layers", model.n_layers},
                   {"n_heads", model.n_heads},  {"n_kv_heads", model.n_kv_heads},
                   {"head_dim", model.head_dim}};
  json["page_size"] = page_size;
  json["position_bias"] = config.schedule.position_bias;
  json["refresh_interval"] = config.schedule.refresh_interval;
  json["refresh"] = to_json(config.schedule.refresh);
  json["score"] = {{"page", name_of(config.schedule.page_score)}};
  json["layers"] = Json::array();
  for (const LayerPlan& layer : config.schedule.layers) json["layers"].push_back(to_json(layer));
  json["expected"] = to_json(config.expected);
  json["provenance"] = config.provenance.is_null() ? Json::object() : config.provenance;
  return json;
}

void write(const Config& config, const std::string& path, Existing existing, const Provenance& made) {
  check(config.schedule, path);
  if (config.schedule.layers.size() != static_cast<size_t>(config.model.n_layers))
    throw bad_input("{}: the schedule has {} layers, the model {}", path, config.schedule.layers.size(),
                    config.model.n_layers);
  write_file_atomically(path, to_json(config, made).dump(2) + "\n", existing);
}

std::string check_model(const Config& config, const std::string& path, const ModelInfo& loaded) {
  if (const std::string difference = geometry_difference(config.model, loaded); !difference.empty())
    throw bad_input(
        "{} is a config for another model: {} (the loaded model is {}). Calibrate on this model, or pass "
        "the one that the config was made for ({}).",
        path, difference, loaded.name, config.model.name.empty() ? "not named" : config.model.name);
  if (config.model.sha256 == loaded.sha256 || config.model.sha256.empty() || loaded.sha256.empty()) return "";
  return fmt::format(
      "{} was made with another file of this geometry: {} (sha256 {:.8}…), the loaded model is {} "
      "(sha256 {:.8}…). Its figures may not hold; calibrate again to be sure.",
      path, config.model.name, config.model.sha256, loaded.name, loaded.sha256);
}

}  // namespace deltacal::config
