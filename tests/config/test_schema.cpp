// data/schema/delta_config.schema.json says the same as the reader, as far as a schema can.
#include <catch2/catch_test_macros.hpp>
#include <sstream>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validator.hpp>

#include "config/config.h"
#include "core/files.h"
#include "support/scratch.h"

using namespace deltacal;
using nlohmann::json;

namespace {

// Both must agree: whether the schema accepts, and whether the reader does.
struct Verdict {
  bool schema = false, reader = false;
};

Verdict judge(const json& document) {
  static const json source =
      json::parse(read_file(std::string(PROJECT_DATA) + "/schema/delta_config.schema.json"));
  valijson::Schema schema;
  valijson::SchemaParser parser(valijson::SchemaParser::kDraft7);
  parser.populateSchema(valijson::adapters::NlohmannJsonAdapter(source), schema);
  valijson::Validator validator;
  Verdict verdict;
  verdict.schema = validator.validate(schema, valijson::adapters::NlohmannJsonAdapter(document), nullptr);
  test::Scratch folder;
  write_file_atomically(folder / "c.json", document.dump(), Existing::refuse);
  verdict.reader = test::error_of([&] { config::read(folder / "c.json"); }) == "no error";
  return verdict;
}

json written() {
  config::Config c;
  c.model.name = "tiny";
  c.model.architecture = "llama";
  c.model.sha256 = std::string(64, 'a');
  c.model.n_layers = 3;
  c.model.n_heads = 9;
  c.model.n_kv_heads = 3;
  c.model.head_dim = 64;
  c.schedule.layers = {
      {config::Role::full, 0, 0}, {config::Role::delta, 32, 4}, {config::Role::sparse, 16, 0}};
  c.expected.attended_ratio = {{"8192", 2.5}};
  c.expected.recall = {{2, {0.9, {}, 0.95}}};
  c.expected.nll_gap = config::Interval{0.01, {}, {}};
  return json::parse(config::to_json(c, {"deltacal", 1}).dump());
}

}  // namespace

TEST_CASE("config schema: accepts what is written, and the least that is read") {
  json document = written();
  CHECK((judge(document).schema && judge(document).reader));
  document["expected"]["nll_gap"] = nullptr;
  CHECK((judge(document).schema && judge(document).reader));
  for (const char* optional : {"tool_version", "command", "seed", "created", "position_bias",
                               "refresh_interval", "refresh", "score", "expected", "provenance"})
    document.erase(optional);
  CHECK((judge(document).schema && judge(document).reader));
  document["score"] = {{"page", "max"}};
  CHECK((judge(document).schema && judge(document).reader));
  for (const json& carry : {json(0), json(0.0)}) {  // of earlier versions
    document["score"] = {{"page", "sum"}, {"carry", carry}, {"head_weights", nullptr}};
    CHECK((judge(document).schema && judge(document).reader));
  }
  document["layers"][1].erase("k_pages");
  CHECK((judge(document).schema && judge(document).reader));
}

TEST_CASE("config schema: refresh by an interval or by a signal") {
  json document = written();
  CHECK(document["refresh"].is_null());
  document["refresh_interval"] = 8;
  CHECK((judge(document).schema && judge(document).reader));
  document["refresh_interval"] = 1;
  document["refresh"] = {{"signal", "query-cosine"}, {"threshold", 0.9}, {"max_interval", 16}};
  CHECK((judge(document).schema && judge(document).reader));
  document["refresh"]["threshold"] = 1.5;
  CHECK_FALSE((judge(document).schema || judge(document).reader));
}

TEST_CASE("config schema: refuses what the reader refuses") {
  const std::vector<std::pair<const char*, json>> changes{{"/page_size", 32},
                                                          {"/refresh_interval", 0},
                                                          {"/refresh", "query-cosine"},
                                                          {"/refresh", {{"signal", "query-cosine"}}},
                                                          {"/score/carry", 0.5},
                                                          {"/score/page", "mean"},
                                                          {"/score/head_weights", json::array()},
                                                          {"/score/head_weights", {nullptr, {1}, nullptr}},
                                                          {"/layers/2/role", "dense"},
                                                          {"/layers/2/k_page", 3},
                                                          {"/layers/2/l_pages", 3},
                                                          {"/layers/0/k_pages", 3},
                                                          {"/layers/1/l_pages", 0},
                                                          {"/layers/1/k_pages", "8"},
                                                          {"/unknown", 1},
                                                          {"/model/n_layers", "3"},
                                                          {"/position_bias", -1},
                                                          {"/format", "x"},
                                                          {"/expected/attended_ratio/8k", 2},
                                                          {"/expected/nll_gap", 1},
                                                          {"/provenance", nullptr}};
  for (const auto& [pointer, value] : changes) {
    json document = written();
    document[json::json_pointer(pointer)] = value;
    INFO(pointer);
    const Verdict verdict = judge(document);
    CHECK_FALSE(verdict.schema);
    CHECK_FALSE(verdict.reader);
  }
}
