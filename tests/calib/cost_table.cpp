// Cost tables: their file, interpolation, and what they refuse.
#include "calib/cost_table.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validator.hpp>

#include "core/error.h"
#include "core/files.h"
#include "support/scratch.h"

using namespace deltacal;
using namespace deltacal::calib;
using Catch::Matchers::ContainsSubstring;
using Json = nlohmann::ordered_json;

namespace {

Json sound() {
  return {{"format", "deltacal-cost-table"},
          {"schema_version", 1},
          {"device", "some CPU"},
          {"batch", 2},
          {"contexts", {1000, 2000}},
          {"k_pages", {4, 8, 16}},
          {"full_ms", {1, 2}},
          {"delta_ms", {1.5, 3}},
          {"sparse_ms", {{0.25, 0.5, 0.75}, {0.5, 0.75, 1.25}}},
          {"other_ms", {4, 5}}};
}

CostTable read(const Json& json) {
  const deltacal::test::Scratch folder;
  std::ofstream(folder / "t.json") << json;
  return read_cost_table(folder / "t.json");
}

// By data/schema/cost_table.schema.json.
bool accepted(const Json& document) {
  const auto plain = nlohmann::json::parse(document.dump());
  static const auto source =
      nlohmann::json::parse(read_file(std::string(PROJECT_DATA) + "/schema/cost_table.schema.json"));
  valijson::Schema schema;
  valijson::SchemaParser parser(valijson::SchemaParser::kDraft7);
  parser.populateSchema(valijson::adapters::NlohmannJsonAdapter(source), schema);
  valijson::Validator validator;
  return validator.validate(schema, valijson::adapters::NlohmannJsonAdapter(plain), nullptr);
}

// The steps that see exactly this many positions.
std::vector<config::StepRange> seeing(std::initializer_list<int> contexts) {
  std::vector<config::StepRange> ranges;
  for (int context : contexts) ranges.push_back({context - 1, context});
  return ranges;
}

const std::vector<int> k_pages{4, 6, 16};

}  // namespace

TEST_CASE("cost table: a file is read as it stands") {
  const CostTable table = read(sound());
  CHECK(table.device == "some CPU");
  CHECK(table.batch == 2);
  CHECK(table.contexts == std::vector{1000, 2000});
  CHECK(table.k_pages == std::vector{4, 8, 16});
  CHECK(table.full_ms == std::vector{1.0, 2.0});
  CHECK(table.delta_ms == std::vector{1.5, 3.0});
  CHECK(table.sparse_ms[1] == std::vector{0.5, 0.75, 1.25});
  CHECK(table.other_ms == std::vector{4.0, 5.0});
}

TEST_CASE("cost table: what is written is read back bit for bit") {
  CostTable table;
  table.device = "CPU \"X\", 2 threads";
  table.batch = 3;
  table.contexts = {1, 777, 8192};
  table.k_pages = {4, 64};
  table.full_ms = {1e-9, 1.0 / 3, 2.5};
  table.delta_ms = {0, 0.1, 0.7};
  table.sparse_ms = {{1, 2}, {0.3, 1.0 / 7}, {5, 6}};
  table.other_ms = {12, 1e3, 0.1 + 0.2};
  const deltacal::test::Scratch folder;
  write_cost_table(table, folder / "t.json", Existing::refuse, {"deltacal bench", 7});
  const CostTable back = read_cost_table(folder / "t.json");
  CHECK(back.device == table.device);
  CHECK(back.batch == table.batch);
  CHECK(back.contexts == table.contexts);
  CHECK(back.k_pages == table.k_pages);
  CHECK(back.full_ms == table.full_ms);
  CHECK(back.delta_ms == table.delta_ms);
  CHECK(back.sparse_ms == table.sparse_ms);
  CHECK(back.other_ms == table.other_ms);
  CHECK(accepted(Json::parse(read_file(folder / "t.json"))));
  CHECK_THROWS_WITH(write_cost_table(table, folder / "t.json", Existing::refuse, {}),
                    ContainsSubstring("--force"));
}

TEST_CASE("cost table: a broken file is refused with its name and the field") {
  const auto refused = [](const char* field, const Json& value) {
    Json json = sound();
    json[field] = value;
    CHECK_THROWS_WITH(read(json), ContainsSubstring("t.json") && ContainsSubstring(field));
  };
  refused("format", "deltacal-config");
  refused("schema_version", 2);
  refused("batch", 0);
  refused("device", 3);
  refused("contexts", Json::array());
  refused("contexts", {2000, 1000});
  refused("contexts", {1000.5, 2000});
  refused("k_pages", {0, 1, 2});
  refused("k_pages", "4");
  refused("full_ms", {1});
  refused("full_ms", {1, -1});
  refused("delta_ms", {1, "2"});
  refused("delta_ms", {1, nullptr});
  refused("other_ms", {1, 2, 3});
  refused("sparse_ms", {{1, 2, 3}});
  refused("sparse_ms", {{1, 2, 3}, {1, 2}});
  refused("sparse_ms", {1, 2});
  refused("full_mss", {1, 2});
  for (const char* field : {"format", "contexts", "sparse_ms", "other_ms"}) {
    Json json = sound();
    json.erase(field);
    CHECK_THROWS_WITH(read(json), ContainsSubstring("t.json") && ContainsSubstring(field));
  }
  const deltacal::test::Scratch folder;
  std::ofstream(folder / "t.json") << "{\"format\": ";
  CHECK_THROWS_WITH(read_cost_table(folder / "t.json"), ContainsSubstring("t.json"));
  CHECK_THROWS_AS(read_cost_table(folder / "none.json"), Error);
}

TEST_CASE("cost table: the schema accepts the least that is read, and refuses what the reader refuses") {
  const Json good = sound();
  CHECK(accepted(good));
  for (const auto& [field, value] : good.items()) {
    Json without = good;
    without.erase(field);
    INFO(field);
    CHECK_FALSE(accepted(without));
    CHECK_THROWS_AS(read(without), Error);
  }
  for (const auto& [pointer, value] : {std::pair<const char*, Json>("/format", "deltacal-config"),
                                       {"/schema_version", 2},
                                       {"/batch", 0},
                                       {"/device", 3},
                                       {"/contexts", Json::array()},
                                       {"/contexts/0", 1000.5},
                                       {"/k_pages/1", 4},
                                       {"/full_ms/1", "2"},
                                       {"/sparse_ms/0", 1},
                                       {"/sparse_ms/1/2", -1},
                                       {"/other_ms/0", nullptr},
                                       {"/surprise", 1}}) {
    Json bad = good;
    bad[Json::json_pointer(pointer)] = value;
    INFO(pointer);
    CHECK_FALSE(accepted(bad));
    CHECK_THROWS_AS(read(bad), Error);
  }
}

TEST_CASE("cost table: times are interpolated between contexts and between k, and summed in nanoseconds") {
  const CostTable table = read(sound());
  const auto at_1000 = layer_costs(table, seeing({1000}), k_pages);
  CHECK(at_1000.full == 1'000'000);
  CHECK(at_1000.delta == 1'500'000);
  CHECK(at_1000.sparse == std::vector<long long>{250'000, 375'000, 750'000});
  const auto at_1250 = layer_costs(table, seeing({1250}), k_pages);
  CHECK(at_1250.full == 1'250'000);
  CHECK(at_1250.delta == 1'875'000);
  // k 4: 0.25 + (0.5 - 0.25) / 4; k 6: between 0.375 and 0.625; k 16: between 0.75 and 1.25
  CHECK(at_1250.sparse == std::vector<long long>{312'500, 437'500, 875'000});
  const auto both = layer_costs(table, seeing({1000, 1250}), k_pages);
  CHECK(both.full == at_1000.full + at_1250.full);
  CHECK(both.sparse[1] == at_1000.sparse[1] + at_1250.sparse[1]);
}

TEST_CASE("cost table: each step's time is rounded up to a nanosecond") {
  CostTable table = read(sound());
  table.full_ms = {1, 1 + 1e-4};  // 100 ns over 1000 positions
  CHECK(layer_costs(table, seeing({1010}), k_pages).full == 1'000'001);
  CHECK(layer_costs(table, seeing({1011}), k_pages).full == 1'000'002);
  CHECK(layer_costs(table, seeing({1001, 1002}), k_pages).full == 2'000'002);
}

TEST_CASE("cost table: a layer that sees at most k pages costs what a full one does") {
  CostTable table = read(sound());
  table.contexts = {32, 160};
  const std::vector<int> ks{4, 5, 300};  // 300 pages are never more than what a step sees
  const auto costs = layer_costs(table, seeing({64, 80}), ks);
  CHECK(costs.sparse[1] == costs.full);
  CHECK(costs.sparse[2] == costs.full);
  const auto at_64 = layer_costs(table, seeing({64}), ks), at_80 = layer_costs(table, seeing({80}), ks);
  CHECK(costs.sparse[0] == at_64.full + at_80.sparse[0]);
  CHECK(at_80.sparse[0] < at_80.full);
}

TEST_CASE("cost table: a budget is what other work leaves, in the mean over steps") {
  const CostTable table = read(sound());
  CHECK(ms_budget(table, seeing({1000}), 4.5) == 500'000);
  CHECK(ms_budget(table, seeing({1000, 2000}), 4.75) == 2 * 4'750'000 - 9'000'000);
  CHECK_THROWS_WITH(ms_budget(table, seeing({1000}), 4), ContainsSubstring("4 ms alone"));
}

TEST_CASE("cost table: nothing is extrapolated, and the covered range is named") {
  const CostTable table = read(sound());
  const std::vector<config::StepRange> whole{{999, 2000}};
  CHECK(layer_costs(table, whole, k_pages).full > 0);
  for (const auto& ranges : {seeing({999}), seeing({2001}), seeing({1500, 2001})}) {
    CHECK_THROWS_WITH(layer_costs(table, ranges, k_pages), ContainsSubstring("covers 1000 to 2000"));
    CHECK_THROWS_WITH(ms_budget(table, ranges, 9), ContainsSubstring("covers 1000 to 2000"));
  }
  for (int k : {3, 17})
    CHECK_THROWS_WITH(layer_costs(table, whole, std::vector{k}), ContainsSubstring("covers 4 to 16"));
  CHECK_THROWS_AS(layer_costs(table, std::vector<config::StepRange>{}, k_pages), Error);
  CHECK_THROWS_AS(layer_costs(table, std::vector<config::StepRange>{{1500, 1500}}, k_pages), Error);
}
