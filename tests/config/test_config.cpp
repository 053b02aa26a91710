#include "config/config.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <filesystem>

#include "core/files.h"
#include "support/scratch.h"

using namespace deltacal;
using namespace deltacal::config;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;
using Json = nlohmann::ordered_json;

namespace {

Config example() {
  Config c;
  c.model.name = "tiny";
  c.model.architecture = "llama";
  c.model.sha256 = std::string(64, 'a');
  c.model.n_layers = 4;
  c.model.n_heads = 9;
  c.model.n_kv_heads = 3;
  c.model.head_dim = 64;
  c.schedule.layers = {
      {Role::full, 0, 0}, {Role::delta, 32, 4}, {Role::sparse, 16, 0}, {Role::sparse, 32, 0}};
  c.schedule.position_bias = 0;
  c.schedule.page_score = PageScore::max;
  c.expected.attended_ratio = {{"8192", 2.5}, {"16384", 3.25}};
  c.expected.recall = {{2, {0.9, 0.85, 0.95}}, {3, {0.8, {}, {}}}};
  c.expected.nll_gap = Interval{0.01, -0.002, {}};
  c.provenance = {{"method", "dp"}, {"seed", 7}};
  return c;
}

// The least that a file must have.
Json minimal() {
  return Json::parse(R"({"format": "deltacal-config", "schema_version": 1,
    "model": {"architecture": "llama", "n_layers": 4, "n_heads": 9, "n_kv_heads": 3, "head_dim": 64},
    "page_size": 16,
    "layers": [{"role": "full"}, {"role": "delta", "l_pages": 4}, {"role": "sparse", "k_pages": 16},
               {"role": "sparse", "k_pages": 8}]})");
}

Config read_json(const std::string& text) {
  test::Scratch folder;
  write_file_atomically(folder / "c.json", text, Existing::refuse);
  return read(folder / "c.json");
}

// The error of the minimal file with one place changed (a JSON pointer), or taken out where `value` is
// discarded.
std::string error_with(const std::string& pointer, const Json& value) {
  Json json = minimal();
  json[Json::json_pointer(pointer)] = value;
  return test::error_of([&] { read_json(json.dump()); });
}
std::string error_without(const std::string& pointer) {
  Json json = minimal();
  const Json::json_pointer place(pointer);
  json[place.parent_pointer()].erase(place.back());
  return test::error_of([&] { read_json(json.dump()); });
}

}  // namespace

TEST_CASE("config: what is written is read back") {
  test::Scratch folder;
  const Config c = example();
  write(c, folder / "c.json", Existing::refuse, {"deltacal calibrate", 7});
  const Config back = read(folder / "c.json");
  CHECK(back.schedule == c.schedule);
  CHECK(back.model.name == "tiny");
  CHECK(back.model.sha256 == c.model.sha256);
  CHECK(geometry_difference(back.model, c.model).empty());
  CHECK(back.expected.attended_ratio == c.expected.attended_ratio);
  REQUIRE(back.expected.recall.size() == 2);
  CHECK(back.expected.recall[0].layer == 2);
  CHECK(back.expected.recall[0].recall.low == 0.85);
  CHECK_FALSE(back.expected.recall[1].recall.low);
  REQUIRE(back.expected.nll_gap);
  CHECK(back.expected.nll_gap->low == -0.002);
  CHECK_FALSE(back.expected.nll_gap->high);
  CHECK(back.provenance == c.provenance);
  Json first = to_json(c, {"x", 7}), again = to_json(back, {"x", 7});
  first.erase("created");
  again.erase("created");
  CHECK(first == again);
}

TEST_CASE("config: an existing file is not replaced unless asked") {
  test::Scratch folder;
  write_file_atomically(folder / "c.json", "mine", Existing::refuse);
  CHECK_THAT(test::error_of([&] { write(example(), folder / "c.json", Existing::refuse, {}); }),
             StartsWith("2: "));
  CHECK(read_file(folder / "c.json") == "mine");
  write(example(), folder / "c.json", Existing::replace, {});
  CHECK(read(folder / "c.json").schedule == example().schedule);
}

TEST_CASE("config: fields that are missing have their defaults") {
  const Config c = read_json(minimal().dump());
  CHECK(c.schedule.position_bias == 1e-7);
  CHECK(c.schedule.refresh_interval == 1);
  CHECK(c.model.name.empty());
  CHECK(c.expected.attended_ratio.empty());
  CHECK_FALSE(c.expected.nll_gap);
  CHECK(c.schedule.layers[1] == LayerPlan{Role::delta, 16, 4});  // the largest k that it serves
  Json whole_list = minimal();
  whole_list["layers"][1]["k_pages"] = 64;
  whole_list["layers"][3].erase("k_pages");
  CHECK(read_json(whole_list.dump()).schedule.layers[3] == LayerPlan{Role::sparse, 64, 0});
}

TEST_CASE("config: each required field is asked for by name") {
  for (const std::string field : {"/model", "/page_size", "/layers", "/model/architecture", "/model/n_layers",
                                  "/model/n_heads", "/model/n_kv_heads", "/model/head_dim"}) {
    std::string path = field.substr(1);
    std::replace(path.begin(), path.end(), '/', '.');
    CHECK_THAT(error_without(field),
               StartsWith("2: ") && ContainsSubstring("the field " + path + " is missing"));
  }
  CHECK_THAT(error_without("/format"), ContainsSubstring("no field \"format\""));
  CHECK_THAT(error_without("/schema_version"), ContainsSubstring("schema_version"));
  Json layers = minimal();
  layers["layers"][0].erase("role");
  CHECK_THAT(test::error_of([&] { read_json(layers.dump()); }),
             ContainsSubstring("layers[0].role is missing"));
  layers = minimal();
  layers["layers"][1].erase("l_pages");
  CHECK_THAT(test::error_of([&] { read_json(layers.dump()); }),
             ContainsSubstring("layers[1].l_pages is missing"));
  layers = minimal();
  layers["layers"][2].erase("k_pages");
  layers["layers"][3].erase("k_pages");
  CHECK_THAT(test::error_of([&] { read_json(layers.dump()); }),
             ContainsSubstring("layers[1].k_pages is missing, and no layer"));
}

TEST_CASE("config: an unknown field is named with its path and the nearest known name") {
  CHECK_THAT(error_with("/layers/3/k_page", 4),
             ContainsSubstring("unknown field layers[3].k_page; did you mean k_pages?"));
  CHECK_THAT(error_with("/page_sise", 16),
             ContainsSubstring("unknown field page_sise; did you mean page_size?"));
  CHECK_THAT(error_with("/model/layers", 4),
             ContainsSubstring("unknown field model.layers") && ContainsSubstring("n_layers"));
  CHECK_THAT(error_with("/zebra", 1), ContainsSubstring("unknown field zebra. Known here: format"));
  CHECK_THAT(error_with("/score", Json{{"weights", 1}}), ContainsSubstring("unknown field score.weights"));
  CHECK_THAT(error_with("/expected", Json{{"recalls", 1}}), ContainsSubstring("did you mean recall?"));
}

TEST_CASE("config: values of another type or out of range are refused with what is there") {
  CHECK_THAT(error_with("/layers/1/l_pages", "4"),
             ContainsSubstring("layers[1].l_pages is \"4\", expected an integer"));
  CHECK_THAT(error_with("/layers/1/l_pages", 4.0), ContainsSubstring("layers[1].l_pages is 4.0"));
  CHECK_THAT(error_with("/layers/1/l_pages", 0),
             ContainsSubstring("layers[1].l_pages is 0, expected an integer of 1 or more"));
  CHECK_THAT(error_with("/layers/2/k_pages", -1), ContainsSubstring("layers[2].k_pages is -1"));
  CHECK_THAT(error_with("/layers/2/k_pages", uint64_t{1} << 32),
             ContainsSubstring("layers[2].k_pages is 4294967296"));
  CHECK_THAT(error_with("/layers/2/k_pages", ~uint64_t{0}), ContainsSubstring("layers[2].k_pages"));
  CHECK_THAT(error_with("/layers/2/k_pages", std::numeric_limits<int64_t>::min()),
             ContainsSubstring("layers[2].k_pages"));
  CHECK_THAT(error_with("/layers/2/role", "Sparse"),
             ContainsSubstring("layers[2].role is \"Sparse\", expected \"full\""));
  CHECK_THAT(error_with("/layers/2", 3), ContainsSubstring("layers[2] is number, expected an object"));
  CHECK_THAT(error_with("/layers", Json::object()), ContainsSubstring("layers is {}, expected an array"));
  CHECK_THAT(error_with("/layers/4", Json{{"role", "full"}}),
             ContainsSubstring("layers has 5 entries, model.n_layers is 4"));
  CHECK_THAT(error_with("/model/n_kv_heads", 2), ContainsSubstring("model.n_heads 9 is no multiple"));
  CHECK_THAT(error_with("/model", nullptr), ContainsSubstring("model is null"));
  CHECK_THAT(error_with("/position_bias", "x"), ContainsSubstring("position_bias"));
  CHECK_THAT(error_with("/position_bias", -1e-7), ContainsSubstring("position_bias"));
  CHECK_THAT(error_with("/expected", Json{{"attended_ratio", {{"8k", 2}}}}),
             ContainsSubstring("attended_ratio.8k"));
  CHECK_THAT(error_with("/expected", Json{{"recall", {{{"layer", 4}, {"mean", 1}}}}}),
             ContainsSubstring("expected.recall[0].layer is 4"));
  CHECK_THAT(error_with("/provenance", 3), ContainsSubstring("provenance is 3"));
}

TEST_CASE("config: roles and their fields must fit") {
  CHECK_THAT(error_with("/layers/0/k_pages", 4),
             ContainsSubstring("layers[0].k_pages belongs to delta and sparse layers"));
  CHECK_THAT(error_with("/layers/2/l_pages", 4),
             ContainsSubstring("layers[2].l_pages belongs to delta layers alone"));
  CHECK_THAT(error_with("/layers/2/k_pages", 3),
             ContainsSubstring("layers[2].k_pages is 3, below the l_pages 4"));
  CHECK_THAT(error_with("/layers/1/k_pages", 12),
             ContainsSubstring("layers[2].k_pages is 16, but the list of layers[1] has only 12"));
  CHECK_THAT(error_with("/layers/0", Json{{"role", "sparse"}, {"k_pages", 8}}),
             ContainsSubstring("layers[0] is sparse, but no delta layer"));
}

TEST_CASE("config: refresh is read as it is written") {
  const test::Scratch folder;
  Config c = example();
  c.schedule.refresh_interval = 8;
  write(c, folder / "interval.json", Existing::refuse, {"deltacal", 1});
  CHECK(read(folder / "interval.json").schedule == c.schedule);
  c.schedule.refresh_interval = 1;
  c.schedule.refresh = AdaptiveRefresh{0.875, 16};
  write(c, folder / "adaptive.json", Existing::refuse, {"deltacal", 1});
  CHECK(read(folder / "adaptive.json").schedule == c.schedule);
}

TEST_CASE("config: a refresh that cannot be is refused by field") {
  CHECK_THAT(error_with("/refresh_interval", 0), ContainsSubstring("refresh_interval is 0"));
  const Json refresh{{"signal", "query-cosine"}, {"threshold", 0.9}, {"max_interval", 16}};
  const auto with = [&](const char* name, const Json& value) {
    Json changed = refresh;
    changed[name] = value;
    return error_with("/refresh", changed);
  };
  CHECK_THAT(with("signal", "mass"), ContainsSubstring("refresh.signal is \"mass\", expected \"query-cosine\""));
  CHECK_THAT(with("threshold", 2), ContainsSubstring("refresh.threshold is 2"));
  CHECK_THAT(with("max_interval", 0), ContainsSubstring("refresh.max_interval is 0"));
  CHECK_THAT(with("interval", 3), ContainsSubstring("unknown field refresh.interval"));
  CHECK_THAT(error_with("/refresh", 3), ContainsSubstring("refresh"));
}

TEST_CASE("config: options of later versions are refused by name") {
  CHECK_THAT(error_with("/page_size", 32),
             ContainsSubstring("page_size 32 is not supported by this version"));
  CHECK_THAT(error_with("/schema_version", 2), ContainsSubstring("schema_version 2 is not supported"));
  CHECK_THAT(error_with("/format", "deltacal-analysis"), ContainsSubstring("holds \"deltacal-analysis\""));
}

TEST_CASE("config: the page score is read, and refused by name where it is wrong") {
  Json json = minimal();
  CHECK(read_json(json.dump()).schedule.page_score == PageScore::sum);
  json["score"] = {{"page", "max"}};
  CHECK(read_json(json.dump()).schedule.page_score == PageScore::max);
  CHECK(to_json(read_json(json.dump()), {})["score"] == json["score"]);
  CHECK_THAT(error_with("/score", {{"page", "mean"}}),
             ContainsSubstring("score.page is \"mean\", expected \"sum\" or"));
  CHECK_THAT(error_with("/score", {{"heads", 1}}), ContainsSubstring("unknown field score.heads"));
}

TEST_CASE(
    "config: carried scores and head weights of earlier versions are accepted where they change nothing") {
  for (const Json& score : {Json{{"carry", 0}}, Json{{"carry", 0.0}}, Json{{"head_weights", nullptr}},
                            Json{{"page", "sum"}, {"carry", 0.0}, {"head_weights", nullptr}}}) {
    INFO(score.dump());
    Json json = minimal();
    json["score"] = score;
    const Config c = read_json(json.dump());
    CHECK(c.schedule == read_json(minimal().dump()).schedule);
    CHECK(to_json(c, {})["score"] == Json{{"page", "sum"}});
  }
  const std::string why =
      "this version ranks pages by the page score alone, because carried scores and head weights did not "
      "lower the loss on both models measured (data/results/README.md)";
  for (const Json& carry : {Json(0.5), Json(1), Json(-0.1), Json("0"), Json(false), Json(nullptr)})
    CHECK_THAT(error_with("/score", {{"carry", carry}}),
               StartsWith("2: ") && ContainsSubstring("score.carry is " + carry.dump() + ", not 0: " + why));
  for (const Json& weights : {Json::array(), Json::parse("[null, [1, 1, 1, 1, 1, 1, 1, 1, 1], null, null]"),
                              Json::parse("[null, null, null, null]"), Json(0)})
    CHECK_THAT(error_with("/score", {{"head_weights", weights}}),
               StartsWith("2: ") && ContainsSubstring("score.head_weights is not null: " + why));
}

TEST_CASE("config: those of data/results are read") {
  int n_read = 0;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(std::string(PROJECT_DATA) + "/results")) {
    const std::string name = entry.path().filename();
    if (!name.ends_with(".json") || !(name.starts_with("config-") || name.starts_with("refresh-"))) continue;
    INFO(entry.path());
    CHECK(test::error_of([&] { read(entry.path()); }) == "no error");
    ++n_read;
  }
  CHECK(n_read == 8);
}

TEST_CASE("config: a file that is cut short or no JSON is refused") {
  const std::string text = minimal().dump();
  for (size_t length = 0; length < text.size(); length += 9)
    CHECK_THAT(test::error_of([&] { read_json(text.substr(0, length)); }), StartsWith("2: "));
  CHECK_THAT(test::error_of([] { read("/nonexistent/c.json"); }), StartsWith("2: cannot read"));
}

TEST_CASE("config: another model's geometry is refused, another file of the same geometry is a warning") {
  const Config c = example();
  ModelInfo loaded = c.model;
  CHECK(check_model(c, "c.json", loaded).empty());
  loaded.sha256 = std::string(64, 'b');
  loaded.name = "other";
  CHECK_THAT(check_model(c, "c.json", loaded),
             ContainsSubstring("aaaaaaaa…") && ContainsSubstring("bbbbbbbb…") && ContainsSubstring("other"));
  loaded.sha256.clear();
  CHECK(check_model(c, "c.json", loaded).empty());
  loaded.n_kv_heads = 9;
  CHECK_THAT(test::error_of([&] { check_model(c, "c.json", loaded); }),
             StartsWith("2: c.json is a config for another model: n_kv_heads 3, expected 9"));
}
