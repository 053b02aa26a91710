// Whatever a file holds: a report, or an error that names the file and the field. Never another exception.
#include <catch2/catch_test_macros.hpp>
#include <functional>

#include "core/error.h"
#include "reports/support.h"

using namespace deltacal;
using namespace deltacal::reports;
using namespace deltacal::reports::test;

namespace {

std::string complaint(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    CHECK(e.status() == Status::bad_input);
    return e.what();
  }
  return "";
}

// The message of building the fixtures after a change to one of them.
std::string after(std::optional<Json> Inputs::*document, const std::function<void(Json&)>& change) {
  Inputs in = all_fixtures();
  change(*(in.*document));
  return complaint([&] { html(build(in)); });
}

void require_named(const std::string& message, const std::string& file, const std::string& field) {
  INFO(message);
  CHECK(contains(message, file));
  CHECK(contains(message, field));
}

std::string reading(const std::vector<std::string>& files) {
  return complaint([&] { read_inputs(files); });
}

}  // namespace

TEST_CASE("bad input: files that make no report are named") {
  CHECK(contains(reading({}), "no file"));
  CHECK(contains(reading({fixture("no-such-file.json")}), "no-such-file.json"));
  CHECK(contains(reading({fixture("")}), "folder"));
  const std::string twice = reading({fixture("config.json"), fixture("bench.json"), fixture("config.json")});
  CHECK(count(twice, fixture("config.json")) == 2);

  const TemporaryFile trace("trace.json", R"({"format": "deltacal-trace", "schema_version": 1})");
  require_named(reading({trace.path()}), trace.path(), "deltacal-trace");
  const TemporaryFile cut("cut.json", read_file(fixture("analysis.json")).substr(0, 3000));
  require_named(reading({cut.path()}), cut.path(), "not valid JSON");
  for (const char* content :
       {"", "[]", "3", "{}", "{\"format\": 3}", "\x89HDF\r\n", "{\"format\": \"deltacal-config\"}",
        "{\"format\": \"deltacal-config\", \"schema_version\": 2}",
        "{\"format\": \"deltacal-config\", \"schema_version\": 1}"}) {
    const TemporaryFile file("odd.json", content);
    INFO(content);
    CHECK(contains(reading({file.path()}), file.path()));
  }
  const TemporaryFile deep("deep.json", std::string(200'000, '[') + std::string(200'000, ']'));
  require_named(reading({deep.path()}), deep.path(), "nested");
}

TEST_CASE("bad input: files of different models are named") {
  Json other = load("config.json");
  other["model"]["sha256"] = std::string(64, 'c');
  const TemporaryFile file("other.json", other.dump());
  const std::string message = reading({fixture("analysis.json"), file.path()});
  require_named(message, fixture("analysis.json"), file.path());
  CHECK(contains(message, std::string(64, 'c')));
  CHECK(reading({fixture("analysis.json"), fixture("config.json")}) == "");
  Json bench = load("bench.json");
  bench["model"]["sha256"] = std::string(64, 'c');
  const TemporaryFile of_another("bench.json", bench.dump());
  require_named(reading({fixture("analysis.json"), of_another.path()}), fixture("analysis.json"),
                of_another.path());
  bench["model"] = {{"name", "a shape with random weights"}};
  const TemporaryFile of_a_shape("shape.json", bench.dump());
  CHECK(reading({fixture("analysis.json"), of_a_shape.path()}) == "");
  // the same hash with another number of layers is a damaged file
  require_named(after(&Inputs::config, [](Json& c) { c["model"]["n_layers"] = 5; }), "analysis.json",
                "config.json");
}

TEST_CASE("bad input: file and field of what is missing or mistyped") {
  const auto analysis = [](auto change) { return after(&Inputs::analysis, change); };
  const auto config = [](auto change) { return after(&Inputs::config, change); };
  const auto validation = [](auto change) { return after(&Inputs::validation, change); };
  require_named(analysis([](Json& a) { a.erase("recall"); }), "analysis.json", "recall");
  require_named(analysis([](Json& a) { a["recall"][1]["matrix"][3][2] = "x"; }), "analysis.json",
                "recall[1].matrix[3][2]");
  require_named(analysis([](Json& a) { a["recall"][1]["matrix"].erase(0); }), "analysis.json",
                "recall[1].matrix");
  require_named(analysis([](Json& a) { a["layer_drift"]["mean"][0] = 1e300; }), "analysis.json",
                "layer_drift.mean[0]");
  require_named(analysis([](Json& a) { a["half_life"]["layers"][0]["layer"] = 6; }), "analysis.json",
                "half_life.layers[0].layer");
  require_named(analysis([](Json& a) { a["model"]["n_layers"] = 2'000'000'000; }), "analysis.json",
                "model.n_layers");
  require_named(config([](Json& c) { c["layers"][1]["role"] = "sparse"; }), "config.json", "layers[1].role");
  require_named(config([](Json& c) { c["layers"][2]["role"] = "dense"; }), "config.json", "layers[2].role");
  require_named(config([](Json& c) { c["layers"][2]["k_pages"] = 0; }), "config.json", "layers[2].k_pages");
  require_named(config([](Json& c) { c["layers"].push_back({{"role", "full"}}); }), "config.json", "layers");
  require_named(validation([](Json& v) { v["policies"][0].erase("attended_ratio"); }), "validation.json",
                "policies[0]");
  require_named(validation([](Json& v) { v["policies"][1]["samples"][0]["active_steps"] = -1; }),
                "validation.json", "policies[1].samples[0].active_steps");
  require_named(validation([](Json& v) { v["verdict"]["passed"] = "yes"; }), "validation.json",
                "verdict.passed");
}

TEST_CASE("bad input: entries that may be absent are") {
  CHECK(after(&Inputs::config, [](Json& c) {
          c.erase("provenance");
          c.erase("expected");
        }) == "");
  CHECK(after(&Inputs::config, [](Json& c) { c["layers"][2].erase("k_pages"); }) == "");  // the whole list
  CHECK(after(&Inputs::validation, [](Json& v) { v.erase("verdict"); }) == "");
  CHECK(after(&Inputs::validation, [](Json& v) { v["policies"] = Json::array(); }) == "");
  CHECK(after(&Inputs::validation, [](Json& v) { v["policies"].erase(1); }) == "");
  CHECK(after(&Inputs::validation, [](Json& v) {
          for (auto& policy : v["policies"])
            for (const char* name : {"all", "bins", "samples", "recall", "vs_delta"}) policy.erase(name);
        }) == "");
  CHECK(after(&Inputs::analysis, [](Json& a) {
          a.erase("correlation");
          a.erase("half_life");
        }) == "");
  CHECK(after(&Inputs::analysis,
              [](Json& a) { a["recall"] = a["oracle_recall"] = a["stale_recall"] = Json::array(); }) == "");
}

// Array elements from the second on are like the first, except the layers of a config.
static bool stands_for_others(const std::string& path) {
  if (path.rfind("/layers/", 0) == 0) return true;
  for (size_t at = path.find('/'); at != std::string::npos; at = path.find('/', at + 1))
    if (path[at + 1] >= '1' && path[at + 1] <= '9') return path.rfind("/expected/", 0) == 0;
  return true;
}

// Each field of each document in turn removed and replaced by every kind of value.
TEST_CASE("bad input: no change of a single field gets past as a crash") {
  const std::vector<Json> replacements{
      nullptr, true, -1, 3, 1e300, "text", Json::array(), Json::object(), Json::array({Json::object()})};
  size_t tried = 0, refused = 0;
  for (const auto document : {&Inputs::analysis, &Inputs::config, &Inputs::validation, &Inputs::bench}) {
    Inputs in;
    in.analysis_file = in.config_file = in.validation_file = in.bench_file = "FILE";
    const Inputs all = all_fixtures();
    const Json original = *(all.*document);
    const Json flat = original.flatten();
    std::set<std::string> paths;
    for (const auto& [path, value] : flat.items())  // every leaf and every node above it
      if (stands_for_others(path))
        for (size_t end = path.size(); end != 0 && end != std::string::npos; end = path.rfind('/', end - 1))
          paths.insert(path.substr(0, end));
    for (const std::string& path : paths) {
      for (const Json& replacement : replacements) {
        Json changed = original;
        changed[Json::json_pointer(path)] = replacement;
        in.*document = std::move(changed);
        ++tried;
        try {
          const Report report = build(in);
          if (tried % 7 == 0) html(report), markdown(report), csv(report), json(report);
        } catch (const Error& e) {
          ++refused;
          if (!contains(e.what(), "FILE"))
            FAIL_CHECK(path << " = " << replacement.dump() << ": " << e.what());
        }
      }
      Json removed = original;
      const auto pointer = Json::json_pointer(path);
      if (removed[pointer.parent_pointer()].is_object())
        removed[pointer.parent_pointer()].erase(pointer.back());
      in.*document = std::move(removed);
      try {
        build(in);
      } catch (const Error& e) {
        CHECK(contains(e.what(), "FILE"));
      }
    }
    (in.*document).reset();
  }
  CHECK(refused > tried / 4);
}
