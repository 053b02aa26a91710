// From artefacts to a page. The artefacts are read as the JSON documents they are (analysis.json,
// delta_config.json, validation.json, compare.json, a bench file), so that a report can be made far from the
// model and the program that made them.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "reports/model.h"

namespace deltacal::reports {

struct Inputs {
  std::optional<nlohmann::ordered_json> analysis, config, validation, comparison, bench;
  std::string analysis_file, config_file, validation_file, comparison_file,
      bench_file;             // names, for messages and the last section
  std::string config_sha256;  // of the config's file: to tell whether the validation judged this very config
};

// Recognises each file by its field `format`: deltacal-analysis, -config, -validation, -compare, -bench, in
// any order. bad_input names the files if one is no such artefact, if two are of one kind, or if their models
// differ (model.sha256).
Inputs read_inputs(const std::vector<std::string>& files);

// bad_input names the file and the field that is missing or of the wrong type. Parts whose artefact was not
// given are left out, and the last section says what to pass for them.
Report build(const Inputs&);

// One self-contained page: inline SVG and CSS, no script, nothing loaded from elsewhere.
std::string html(const Report&);
// The same figures as tables (GitHub flavour).
std::string markdown(const Report&);
// Long form, RFC 4180: figure, row, column, value, low, high, unit; numbers in full precision, missing ones
// empty.
std::string csv(const Report&);
// The report model itself; missing numbers are null.
std::string json(const Report&);

}  // namespace deltacal::reports
