// bench --cost-table, and calibrate with the table that it wrote. No time that it measures decides anything here.
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "program.h"
#include "support/scratch.h"
#include "support/tiny_model.h"
#include "trace/trace.h"

using namespace deltacal;
using Json = nlohmann::json;
using test::run_program;

TEST_CASE("bench: the cost table it measures is what calibrate takes for a budget in milliseconds") {
  const test::Scratch folder;
  const std::string model = folder / "m.gguf", data = folder / "d.jsonl", trace = folder / "t.h5",
                    table = folder / "cost.json";
  constexpr int n_layers = 4;
  test::write_tiny_model({}, model);
  std::string text;
  for (int i = 0; i < 50; ++i) text += "word" + std::to_string(i) + " ";
  std::ofstream(data) << Json{{"text", text}}.dump() + "\n";
  REQUIRE(run_program("profile --dtype f32 --steps all --model " + model + " --data " + data + " --out " + trace)
              .status == 0);

  const std::string bench = "bench --dtype f32 --repeats 3 --k-pages 4,2 --model " + model + " --cost-table " + table;
  const auto measured = run_program(bench);
  CAPTURE(measured.output);
  REQUIRE(measured.status == 0);
  Json json = Json::parse(read_file(table));
  CHECK(json["contexts"] == Json{1, 64, 256, 512});  // the model's context is 512
  CHECK(json["k_pages"] == Json{2, 4});
  CHECK(json["device"].get<std::string>().find("in f32") != std::string::npos);
  for (const char* part : {"full_ms", "delta_ms"})
    for (const auto& ms : json[part]) CHECK(ms.get<double>() > 0);
  CHECK(json["sparse_ms"][1] == Json{json["sparse_ms"][1][0], json["full_ms"][1]});  // 64 positions are 4 pages
  CHECK(run_program(bench).output.find("--force") != std::string::npos);

  const std::string calibrate = "calibrate " + trace + " --k-pages 2,4 --l-pages 1 --cost " + table;
  CHECK(run_program(calibrate + " --budget ms=0.0000001 --out " + (folder / "c.json")).status == 2);
  REQUIRE(run_program(calibrate + " --budget ms=1000000 --out " + (folder / "c.json")).status == 0);
  const auto n_sparse = [&] {
    const Json config = Json::parse(read_file(folder / "c.json"));
    int n = 0;
    for (const auto& layer : config["layers"]) n += layer["role"] == "sparse";
    return n;
  };
  CHECK(n_sparse() == 0);

  // The same file with times of one's own: a step may take less than four full layers do.
  for (int c = 0; c < 4; ++c) {
    json["full_ms"][c] = json["delta_ms"][c] = 1;
    json["sparse_ms"][c] = {0.1, 0.2};
    json["other_ms"][c] = 3;
  }
  std::ofstream(table) << json;
  REQUIRE(run_program(calibrate + " --force --budget ms=5.9 --out " + (folder / "c.json")).status == 0);
  CHECK(n_sparse() >= 1);
  CHECK(n_sparse() < n_layers);

  // The nearest: a Δ-layer and three layers of two pages, all four full at the steps that see no more.
  const trace::Reader recorded(trace);
  const int first = recorded.info(0).n_prompt_tokens, end = recorded.info(0).n_tokens;
  double nearest = 0, told = 0;
  for (int t = first; t < end; ++t) nearest += (3 + (t < 32 ? 4 : 1.3)) / (end - first);
  const auto short_of = run_program(calibrate + " --budget ms=4 --out " + (folder / "n.json"));
  CAPTURE(short_of.output);
  CHECK(short_of.status == 2);
  const size_t at = short_of.output.find("a step of the nearest takes ");
  REQUIRE(at != std::string::npos);
  REQUIRE(std::sscanf(short_of.output.c_str() + at, "a step of the nearest takes %lf ms", &told) == 1);
  CHECK(told == Catch::Approx(nearest).epsilon(1e-5));
}

TEST_CASE("bad input: bench --cost-table") {
  const test::Scratch folder;
  const std::string model = folder / "m.gguf";
  test::write_tiny_model({}, model);
  const auto refused = [&](const std::string& more, const std::string& what) {
    const auto outcome = run_program("bench --dtype f32 --model " + model + more);
    CAPTURE(more, outcome.output);
    CHECK(outcome.status == 2);
    CHECK(outcome.output.find(what) != std::string::npos);
  };
  const std::string table = " --cost-table " + (folder / "cost.json");
  refused(table + " --contexts 64,100000", "the model's context of 512");
  refused(table + " --contexts 0,64", "at least 1");
  refused(table + " --k-pages 0,4", "at least 1 page");
  refused(table + " --config x.json", "--config");
  refused(table + " --decode-steps 5", "--decode-steps");
  refused(table + " --out " + (folder / "b.json"), "--out");
  refused(" --k-pages 2", "--cost-table");
}
