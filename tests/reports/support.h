// Inputs for the report's tests: the hand-made fixtures of six layers, and artefacts of any number of layers
// whose every number is different.
#pragma once
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/files.h"
#include "reports/report.h"

namespace deltacal::reports::test {

using Json = nlohmann::ordered_json;

inline std::string fixture(const std::string& name) {
  return std::string(TEST_DATA) + "/fixtures/" + name;
}
inline Json load(const std::string& name) {
  return Json::parse(read_file(fixture(name)));
}

inline Inputs all_fixtures() {
  return read_inputs({fixture("bench.json"), fixture("validation.json"), fixture("analysis.json"),
                      fixture("compare.json"), fixture("config.json")});
}

// A file that goes when the test ends.
class TemporaryFile {
 public:
  TemporaryFile(const std::string& name, const std::string& content)
      : path_((std::filesystem::temp_directory_path() /
               (std::to_string(reinterpret_cast<uintptr_t>(this)) + "-" + name))
                  .string()) {
    std::ofstream(path_, std::ios::binary) << content;
  }
  TemporaryFile(const TemporaryFile&) = delete;
  ~TemporaryFile() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// The fixtures grown to n layers: roles full, full, then a Δ-layer every seventh; every matrix and curve
// anew.
class Synthetic {
 public:
  explicit Synthetic(int n) : n_(n) {
    Inputs& in = inputs;
    in.analysis_file = "analysis.json";
    in.config_file = "config.json";
    in.validation_file = "validation.json";
    in.analysis = load("analysis.json");
    in.config = load("config.json");
    in.validation = load("validation.json");
    for (Json* document : {&*in.analysis, &*in.config, &*in.validation}) (*document)["model"]["n_layers"] = n;
    grow_analysis(*in.analysis);
    Json layers = Json::array();
    for (int i = 0; i < n; ++i) {
      if (i < 2)
        layers.push_back({{"role", "full"}});
      else if (i % 7 == 2)
        layers.push_back({{"role", "delta"}, {"k_pages", 16}, {"l_pages", 2}});
      else
        layers.push_back({{"role", "sparse"}, {"k_pages", i % 3 ? 16 : 8}});
    }
    (*in.config)["layers"] = layers;
  }
  Inputs inputs;

 private:
  double next() { return 0.2 + 1e-5 * static_cast<double>(++used_); }
  Json curve() {
    Json values = Json::array(), low = Json::array(), high = Json::array();
    for (int i = 0; i < n_; ++i) {
      const double v = next();
      values.push_back(v), low.push_back(v - 0.0123), high.push_back(v + 0.0123);
    }
    return {{"mean", values}, {"low", low}, {"high", high}};
  }
  Json triangle() {
    Json matrix = Json::array(), low = Json::array(), high = Json::array();
    for (int t = 0; t < n_; ++t) {
      Json row = Json::array(), lows = Json::array(), highs = Json::array();
      for (int s = 0; s < n_; ++s) {
        const double v = next();
        row.push_back(s > t ? Json() : Json(v));
        lows.push_back(s > t ? Json() : Json(v - 0.0123));
        highs.push_back(s > t ? Json() : Json(v + 0.0123));
      }
      matrix.push_back(row), low.push_back(lows), high.push_back(highs);
    }
    return {{"matrix", matrix}, {"low", low}, {"high", high}};
  }
  void grow_analysis(Json& a) {
    for (auto& table : a["recall"]) table.update(triangle());
    for (auto& oracle : a["oracle_recall"]) oracle.update(curve());
    for (const char* name : {"cosine", "pearson", "jaccard"}) {
      Json m = triangle();
      for (const char* part : {"matrix", "low", "high"})
        for (int t = 0; t < n_; ++t)
          for (int s = 0; s < t; ++s) m[part][s][t] = m[part][t][s];
      a["correlation"][name] = m;
    }
    a["layer_drift"] = curve();
    a["step_drift"] = curve();
    for (auto& stale : a["stale_recall"]) stale.update(curve());
    a["half_life"]["window_recall"] = curve()["mean"];
  }
  int n_;
  long used_ = 0;
};

// RFC 4180, by its grammar.
inline std::vector<std::vector<std::string>> parse_csv(const std::string& text) {
  std::vector<std::vector<std::string>> lines(1, {""});
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '"' && i + 1 < text.size() && text[i + 1] == '"')
      lines.back().back() += text[++i];
    else if (c == '"')
      quoted = !quoted;
    else if (!quoted && c == ',')
      lines.back().emplace_back();
    else if (!quoted && c == '\r') {
      if (i + 2 < text.size()) lines.push_back({""});
      ++i;
    } else
      lines.back().back() += c;
  }
  return lines;
}

// figure, row, column -> the line. A key that occurs twice is a mistake of the writer.
using CsvIndex = std::map<std::vector<std::string>, std::vector<std::string>>;
inline CsvIndex index_csv(const std::string& text) {
  CsvIndex index;
  for (auto& line : parse_csv(text)) index[{line.at(0), line.at(1), line.at(2)}] = line;
  return index;
}

inline size_t count(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + what.size())) ++n;
  return n;
}

inline bool contains(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

}  // namespace deltacal::reports::test
