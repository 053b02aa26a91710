#include <catch2/catch_test_macros.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validator.hpp>

#include "calib/json.h"
#include "support_maps.h"

namespace deltacal::calib {
namespace {

using nlohmann::json;

// Empty if `document` meets data/schema/analysis.schema.json, else the first complaint.
std::string complaint(const json& document) {
  std::ifstream file(std::string(PROJECT_DATA) + "/schema/analysis.schema.json");
  const json source = json::parse(file);
  valijson::Schema schema;
  valijson::SchemaParser parser(valijson::SchemaParser::kDraft7);
  parser.populateSchema(valijson::adapters::NlohmannJsonAdapter(source), schema);
  valijson::Validator validator;
  valijson::ValidationResults results;
  if (validator.validate(schema, valijson::adapters::NlohmannJsonAdapter(document), &results)) return {};
  valijson::ValidationResults::Error error;
  results.popError(error);
  std::string where;
  for (const std::string& part : error.context) where += part;
  return where + ": " + error.description;
}

Analysis small_analysis(int n_samples, int n_kv_heads) {
  const Grid grid{{2, 4}, {1, 3}};
  RecallHistogram histogram(3, 3);
  std::vector<SampleAnalysis> samples;
  for (int i = 0; i < n_samples; ++i) {
    const test::OwnedMaps maps =
        test::random_maps(i, 3, test::run_of_steps(100, 6), std::vector<int32_t>(6, 0), n_kv_heads);
    SampleSums sums(grid, 3);
    sums.add(maps.view(), histogram);
    samples.push_back(sums.finish("s", "p" + std::to_string(i)));
  }
  Analysis out = summarise(samples, histogram, grid, {100, 4, 0.9});
  out.model = {"tiny", "llama", std::string(64, '0'), 3, 4, 2, 8, page_size, 512, "f32"};
  out.trace_path = "trace.h5";
  out.trace_sha256 = std::string(64, 'f');
  return out;
}

json json_of(const Analysis& analysis) {
  return json::parse(to_json(analysis, {"deltacal analyze trace.h5", 4}).dump());
}

TEST_CASE("analysis.json: meets its schema, with and without intervals and group mass") {
  CHECK(complaint(json_of(small_analysis(5, 2))) == "");
  CHECK(complaint(json_of(small_analysis(2, 0))) == "");
}

TEST_CASE("analysis.json: says what device and dtype the trace was recorded on, if the trace does") {
  Analysis analysis = small_analysis(2, 0);
  CHECK(!json_of(analysis).contains("device"));
  analysis.model.device = "NVIDIA H200", analysis.model.dtype = "bf16";
  const json found = json_of(analysis);
  CHECK(found["device"] == "NVIDIA H200");
  CHECK(found["dtype"] == "bf16");
  CHECK(complaint(found) == "");
}

TEST_CASE("analysis.json: the schema notices a missing field, an unknown one and a wrong type") {
  const json good = json_of(small_analysis(2, 0));
  for (const auto& [key, value] : good.items()) {
    json bad = good;
    bad.erase(key);
    CHECK(complaint(bad) != "");
  }
  json extra = good, wrong = good, nested = good;
  extra["recal"] = 1;
  wrong["recall"][0]["matrix"][0][0] = "0.5";
  nested["half_life"]["layers"][0].erase("greater_than");
  CHECK(complaint(extra) != "");
  CHECK(complaint(wrong) != "");
  CHECK(complaint(nested) != "");
}

TEST_CASE("analysis.json: rows are targets, columns sources, and undefined values null") {
  const Analysis analysis = small_analysis(5, 2);
  const json found = json_of(analysis);
  REQUIRE(found["recall"].size() == 3);
  const json& entry = found["recall"][1];
  CHECK(entry["k_pages"] == 4);
  CHECK(entry["l_pages"] == 1);
  CHECK(entry["matrix"][0][2].is_null());
  for (const char* name : {"matrix", "low", "high", "worst_step", "p05", "over_oracle", "worst_kv_head"})
    CHECK(entry[name][2][0].is_number());
  CHECK(test::same(entry["matrix"][2][0], analysis.recall[1].recall.mean(2, 0), 1e-5));
  CHECK(test::same(entry["matrix"][1][0], analysis.recall[1].recall.mean(1, 0), 1e-5));
  CHECK(found["layer_drift"]["mean"][0].is_null());
  CHECK(found["oracle_recall"][1]["k_pages"] == 4);
  CHECK(found["predicted_kl"] == json::array());
  CHECK(found["interval"]["reason"].is_null());
  CHECK(found["stale_recall"].size() == 8 * 3);
  CHECK(found["stale_recall"].back()["lag"] == 64);
  CHECK(found["stale_recall"].back()["mean"][0].is_null());  // six steps hold no lag of 64
  CHECK(found["n_steps"] == 30);
  CHECK(found["format"] == "deltacal-analysis");
  CHECK(json_of(small_analysis(3, 0))["interval"]["reason"] == "fewer than 4 problems: 3");
  CHECK(json_of(small_analysis(3, 0))["recall"][0]["worst_kv_head"].is_null());
}

TEST_CASE("analysis.json: six significant digits, null for what is not a number") {
  CHECK(json_number(1.0 / 3).dump() == "0.333333");
  CHECK(json_number(123456.789).dump() == "123457.0");
  CHECK(json_number(1.23456789e-7).dump() == "1.23457e-07");
  CHECK(json_number(test::missing).is_null());
  CHECK(json_number(INFINITY).is_null());
}

}  // namespace
}  // namespace deltacal::calib
