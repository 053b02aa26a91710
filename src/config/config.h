// delta_config.json: the schedule with the model it is for, what to expect of it, and where it came from.
#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "config/schedule.h"
#include "core/files.h"
#include "core/model_info.h"
#include "core/provenance.h"

namespace deltacal::config {

struct Interval {
  double mean = 0;
  std::optional<double> low, high;  // 95%; empty where there are too few problems
};

struct LayerRecall {
  int layer = 0;
  Interval recall;
};

struct Expected {
  std::map<std::string, double> attended_ratio;  // by context length, "8192"
  std::vector<LayerRecall> recall;               // of the sparse layers
  std::optional<Interval> nll_gap;               // nats a token
};

struct Config {
  ModelInfo model;  // name, architecture, sha256 and geometry; the rest is not stored
  Schedule schedule;
  Expected expected;
  nlohmann::ordered_json provenance;  // trace sha256, sample hashes, method, budget, seed, alternatives
};

// Reads and checks a config; bad_input names the file and the field. Unknown fields are errors.
Config read(const std::string& path);

// Every field, defaults included.
nlohmann::ordered_json to_json(const Config&, const Provenance&);
void write(const Config&, const std::string& path, Existing, const Provenance&);

// bad_input if the geometry differs. Returns a warning (empty if none) where only the sha256 differs.
std::string check_model(const Config&, const std::string& path, const ModelInfo& loaded);

}  // namespace deltacal::config
