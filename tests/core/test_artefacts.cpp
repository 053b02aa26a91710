#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "core/model_info.h"
#include "core/pages.h"
#include "core/provenance.h"
#include "support/scratch.h"

using namespace deltacal;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;

TEST_CASE("provenance: the head of an artefact holds what formats ask for") {
  const auto head = artefact_head("deltacal-x", 3, {"deltacal run", ~uint64_t{0}});
  std::vector<std::string> names;
  for (const auto& [name, value] : head.items()) names.push_back(name);
  CHECK(names ==
        std::vector<std::string>{"format", "schema_version", "tool_version", "command", "seed", "created"});
  CHECK(head["format"] == "deltacal-x");
  CHECK(head["schema_version"] == 3);
  CHECK(head["seed"] == ~uint64_t{0});
  CHECK(head["tool_version"] == tool_version);
  std::string now = utc_now();  // "2026-11-22T17:24:19Z"
  for (char& c : now)
    if (c >= '0' && c <= '9') c = '0';
  CHECK(now == "0000-00-00T00:00:00Z");
}

TEST_CASE("provenance: an artefact of another kind, version or no JSON is refused with what it holds") {
  test::Scratch folder;
  const auto error = [&](const std::string& text) {
    write_file_atomically(folder / "a.json", text, Existing::replace);
    return test::error_of([&] { read_artefact(folder / "a.json", "deltacal-x", 1); });
  };
  CHECK(error(R"({"format": "deltacal-x", "schema_version": 1})") == "no error");
  CHECK_THAT(error(R"({"format": "deltacal-y", "schema_version": 1})"),
             StartsWith("2: ") && ContainsSubstring("holds \"deltacal-y\", expected \"deltacal-x\""));
  CHECK_THAT(error(R"({"format": "deltacal-x", "schema_version": 2})"),
             ContainsSubstring("schema_version 2"));
  CHECK_THAT(error(R"({"format": "deltacal-x", "schema_version": "1"})"),
             ContainsSubstring("schema_version \"1\""));
  CHECK_THAT(error(R"({"format": "deltacal-x"})"), ContainsSubstring("schema_version null"));
  CHECK_THAT(error(R"({"schema_version": 1})"), ContainsSubstring("no field \"format\""));
  CHECK_THAT(error("[]"), ContainsSubstring("no field \"format\""));
  CHECK_THAT(error("{\"format\": "), ContainsSubstring("not valid JSON"));
  CHECK_THAT(error("\xff\xfe"), ContainsSubstring("not valid JSON"));
  CHECK_THAT(error(""), ContainsSubstring("not valid JSON"));
}

TEST_CASE("pages: position, number and visible pages at the edges") {
  CHECK(page_of(15) == 0);
  CHECK(page_of(16) == 1);
  CHECK(pages_for(0) == 0);
  CHECK(pages_for(1) == 1);
  CHECK(pages_for(16) == 1);
  CHECK(pages_for(17) == 2);
  CHECK(pages_seen(0) == 1);
  CHECK(pages_seen(15) == 1);
  CHECK(pages_seen(16) == 2);
}

TEST_CASE("model info: the first geometry field that differs is named, names and hashes are not geometry") {
  ModelInfo one;
  one.name = "a";
  one.architecture = "llama";
  one.n_layers = 28;
  one.n_heads = 8;
  one.n_kv_heads = 2;
  one.head_dim = 64;
  ModelInfo other = one;
  other.name = "b";
  other.sha256 = "c";
  other.max_context = 5;
  CHECK(geometry_difference(one, other).empty());
  other.head_dim = 128;
  CHECK(geometry_difference(one, other) == "head_dim 64, expected 128");
  other.n_kv_heads = 4;
  CHECK(geometry_difference(one, other) == "n_kv_heads 2, expected 4");
  other.n_heads = 4;
  CHECK(geometry_difference(one, other) == "n_heads 8, expected 4");
  other.n_layers = 30;
  CHECK(geometry_difference(one, other) == "n_layers 28, expected 30");
  other.architecture = "qwen2";
  CHECK(geometry_difference(one, other) == "architecture llama, expected qwen2");
}
