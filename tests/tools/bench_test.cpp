// bench of random weights of a shape, its files, and what it refuses. No time that it measures decides
// anything here.
#include <catch2/catch_test_macros.hpp>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "program.h"
#include "support/scratch.h"
#include "support/tiny_model.h"

using namespace deltacal;
using Json = nlohmann::ordered_json;
using test::run_program;

namespace {

Json small_shape() {
  Json shape = Json::parse(read_file(std::string(PROJECT_DATA) + "/shapes/qwen2.5-7b.json"));
  shape["name"] = "small", shape["n_layers"] = 3, shape["n_embd"] = 64, shape["n_ff"] = 96,
  shape["n_vocab"] = 300;
  shape["n_heads"] = 4, shape["n_kv_heads"] = 2, shape["head_dim"] = 32, shape["max_context"] = 512;
  return shape;
}

}  // namespace

TEST_CASE("bench: random weights of a shape on the CPU, figures as JSON and CSV that report takes") {
  const test::Scratch folder;
  const std::string shape = folder / "small.json", json = folder / "b.json", csv = folder / "b.csv",
                    markdown = folder / "b.md";
  std::ofstream(shape) << small_shape();
  const std::string bench =
      "bench --device cpu --dtype f32 --repeats 1 --prefill-tokens 64 --contexts 32 "
      "--decode-steps 4 --sensitivity --counters=auto --shape " +
      shape + " --out " + json + " --csv " + csv + " --markdown " + markdown;
  const auto run = run_program(bench);
  CAPTURE(run.output);
  REQUIRE(run.status == 0);
  CHECK(run.output.find("small, random weights: 3 layers") != std::string::npos);
  CHECK(run.output.find("without counters: the model runs on the CPU\n") != std::string::npos);
  const Json figures = Json::parse(read_file(json));
  CHECK(!figures.contains("counters"));
  CHECK(figures["model"] == Json{{"name", "small"}, {"sha256", ""}, {"dtype", "f32"}});
  CHECK(figures["decode"][0]["context"] == 32);
  CHECK(figures["device"] == "cpu");
  const std::string table_of_all = read_file(markdown);
  CHECK(table_of_all.find("| decode, full, context 32 | ") != std::string::npos);
  CHECK(run.output.find(table_of_all) != std::string::npos);
  CHECK(table_of_all.find("\n| the same, 64 steps recorded to a trace | ") != std::string::npos);
  CHECK(table_of_all.find("\n| the same with the sensitivity pass, 2 draws | ") != std::string::npos);
  const std::string lines = read_file(csv);
  CHECK(lines.starts_with("what,rows,context,median_s,min_s,max_s,"));
  CHECK(lines.find("\n\"prefill, plain\",1,64,") != std::string::npos);
  CHECK(lines.find("\n\"prefill, sensitivity\",1,64,") != std::string::npos);
  CHECK(lines.find("\n\"decode, full\",1,32,") != std::string::npos);
  CHECK(run_program("report " + json + " --format md --out " + (folder / "r.md")).status == 0);
  CHECK(run_program(bench).output.find("--force") != std::string::npos);

  const auto table =
      run_program("bench --device cpu --dtype f32 --repeats 1 --contexts 16,64 --k-pages 2 --shape " + shape +
                  " --cost-table " + (folder / "cost.json"));
  CAPTURE(table.output);
  CHECK(table.status == 0);
  CHECK(Json::parse(read_file(folder / "cost.json"))["batch"] == 1);
}

TEST_CASE("bad input: bench of shapes and batches") {
  const test::Scratch folder;
  const std::string model = folder / "m.gguf", shape = folder / "small.json", data = folder / "d.jsonl";
  test::write_tiny_model({}, model);
  std::ofstream(shape) << small_shape();
  std::ofstream(data) << Json{{"text", "one two"}}.dump() << "\n";
  const auto refused = [&](const std::string& arguments, const std::string& what) {
    const auto outcome = run_program("bench --device cpu --dtype f32 " + arguments);
    CAPTURE(arguments, outcome.output);
    CHECK(outcome.status == 2);
    CHECK(outcome.output.find(what) != std::string::npos);
  };
  refused("", "--model or --shape");
  refused("--model " + model + " --shape llama3-8b", "--shape");
  refused("--shape llama-3", "shape llama-3: unknown; use llama3-8b, qwen2.5-1");
  refused("--shape " + (folder / "none.json"), "none.json");
  refused("--shape " + shape + " --data " + data, "no tokenizer");
  refused("--model " + model + " --batch 4x256", "--batch needs a CUDA device");
  refused("--model " + model + " --rows 4", "--cost-table");
  refused("--model " + model + " --rows 4 --cost-table " + (folder / "c.json"), "--rows needs a CUDA device");
  refused("--model " + model + " --rows 0 --cost-table " + (folder / "c.json"), "--rows");
  refused("--model " + model + " --csv " + (folder / "no/b.csv"), "no");
  refused("--model " + model + " --csv " + (folder / "b") + " --out " + (folder / "b"),
          "is named for two outputs");
  refused("--prefill-tokens 64 --shape " + shape + " --contexts 600", "the model's context of 512");
  Json large = small_shape();
  large["n_layers"] = 100, large["n_embd"] = 65536, large["n_ff"] = 65536;
  std::ofstream(folder / "large.json") << large;
  refused("--prefill-tokens 64 --contexts 64 --shape " + (folder / "large.json"),
          "random weights of small take");
  CHECK(run_program("generate --prompt x --shape llama3-8b --model " + model)
            .output.find("unknown option --shape") != std::string::npos);
}

TEST_CASE("bad input: bench on a CUDA device, where there is none or not the one for it") {
  const test::Scratch folder;
  const std::string shape = folder / "small.json";  // head dimension 32 has no CUDA kernel
  std::ofstream(shape) << small_shape();
  const auto outcome = run_program("bench --device cuda --repeats 1 --prefill-tokens 64 --shape " + shape);
  CAPTURE(outcome.output);
  CHECK(outcome.status == 2);
  CHECK(outcome.output.find("--device cuda") != std::string::npos);
}
