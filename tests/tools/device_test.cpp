// Whole commands on a CUDA device against the CPU. The CPU's own distance between bf16 and f32 is the measure
// of what bf16 may do to a page score.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "device_workplace.h"
#include "program.h"
#include "trace/trace.h"

using namespace deltacal;
using Json = nlohmann::json;
using test::run_program;

namespace {

constexpr int n_layers = test::DeviceWorkplace::n_layers;
using Workplace = test::DeviceWorkplace;
using test::must_run;

Json json_of(const std::string& path) {
  return Json::parse(read_file(path));
}

const std::string grid = " --k-pages 4,8,16 --l-pages 1,2";

// Of one computation: "--device cpu --dtype f32" or another.
struct Results {
  std::vector<float> scores;   // of all samples, layers, steps and pages
  std::vector<double> recall;  // of all budgets and edges
  double nll_gap = 0;          // under `config`, on the problems held out
  std::string device;
};

Results results(const Workplace& w, const std::string& name, const std::string& where,
                const std::string& config) {
  const std::string model = " --model " + w.model + " " + where, trace = w / (name + ".h5");
  must_run("profile" + model + " --data " + (w / "seen.jsonl") + " --out " + trace);
  must_run("analyze " + trace + grid + " --resamples 10 --out " + (w / (name + ".analysis.json")));
  if (!std::ifstream(config))
    must_run("calibrate " + trace + grid + " --objective recall --budget attended=1.8 --out " + config);
  must_run("validate" + model + " --data " + (w / "held_out.jsonl") + " --config " + config +
           " --resamples 10 --out " + (w / (name + ".validation.json")));
  Results out;
  const trace::Reader reader(trace);
  for (int i = 0; i < reader.n_samples(); ++i) {
    const auto maps = reader.pages(i, 0, n_layers, 0, static_cast<int>(reader.steps(i).size()));
    out.scores.insert(out.scores.end(), maps.score.begin(), maps.score.end());
  }
  const Json analysis = json_of(w / (name + ".analysis.json")),
             validation = json_of(w / (name + ".validation.json"));
  for (const Json& table : analysis["recall"])
    for (const Json& row : table["matrix"])
      for (const Json& value : row)
        if (value.is_number()) out.recall.push_back(value.get<double>());
  for (const Json& policy : validation["policies"])
    if (policy["name"] == "delta") out.nll_gap = policy["active"]["nll_gap"]["mean"].get<double>();
  CHECK(analysis["device"] == reader.model().device);
  CHECK(validation["device"] == reader.model().device);
  CHECK(validation["dtype"] == reader.model().dtype);
  out.device = reader.model().device;
  return out;
}

double mean_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::abs(double(a[i]) - double(b[i]));
  return sum / double(a.size());
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

}  // namespace

TEST_CASE("device: profile, analyze and validate on a CUDA device agree with the CPU") {
  const Workplace w;
  w.need_device();
  const std::string config = w / "c.json";
  const Results f32 = results(w, "f32", "--device cpu --dtype f32", config),
                bf16 = results(w, "bf16", "--device cpu --dtype bf16", config),
                cuda = results(w, "cuda", "--device cuda --dtype bf16", config);
  CHECK(f32.device == "cpu");
  CHECK((cuda.device != "cpu" && !cuda.device.empty()));
  const double of_bf16 = mean_difference(bf16.scores, f32.scores);
  CAPTURE(of_bf16, f32.nll_gap, bf16.nll_gap, cuda.nll_gap);
  CHECK(of_bf16 > 0);
  CHECK(mean_difference(cuda.scores, f32.scores) < 2 * of_bf16);
  CHECK(largest_difference(bf16.recall, f32.recall) < 5e-3);
  CHECK(largest_difference(cuda.recall, f32.recall) < 5e-3);
  CHECK(std::abs(cuda.nll_gap - f32.nll_gap) < 2e-3);
}

TEST_CASE("device: continuations are recorded with their sensitivities, two at once") {
  const Workplace w;
  w.need_device();
  must_run(
      "profile --device cuda --mode decode --batch 2 --limit 3 --max-new-tokens 40 --steps "
      "all "
      "--sensitivity" +
      grid + " --model " + w.model + " --data " + (w / "seen.jsonl") + " --out " + (w / "d.h5"));
  const trace::Reader trace(w / "d.h5");
  REQUIRE(trace.n_samples() == 3);
  for (int i = 0; i < 3; ++i) CHECK(!trace.steps(i).empty());
  must_run("inspect " + (w / "d.h5"));
}

TEST_CASE("device: bench writes every figure as JSON, CSV and Markdown, with a GPU trace") {
  const Workplace w;
  w.need_device();
  const std::string bench =
      "bench --device cuda --model " + w.model +
      " --batch 2x64 --prefill-tokens 64 --sensitivity --repeats 2 --counters=auto --out " + (w / "b.json") +
      " --csv " + (w / "b.csv") + " --markdown " + (w / "b.md") + " --gpu-trace " + (w / "g.json");
  must_run(bench);
  const Json figures = json_of(w / "b.json");
  CHECK(figures["decode"][0]["rows"] == 2);
  CHECK(figures["decode"][0]["context"] == 64);
  CHECK(figures["recording"][0]["rows"] == 2);
  CHECK(!figures["phases"].empty());
  CHECK((!figures.contains("counters") || !figures["counters"].empty()));
  CHECK(!json_of(w / "g.json")["traceEvents"].empty());
  for (const char* line : {"\n\"decode, full\",2,64,", "\n\"decode, full, every 16th step recorded\",2,64,",
                           "\n\"attention of a full layer\",2,64,", "\n\"prefill, sensitivity\",1,64,"})
    CHECK(read_file(w / "b.csv").find(line) != std::string::npos);
  for (const char* row :
       {"every 16th step recorded | ", "| the same with the sensitivity pass", "| phase | "})
    CHECK(read_file(w / "b.md").find(row) != std::string::npos);
  CHECK(run_program(bench).status == 2);
  must_run(bench + " --force");
}

TEST_CASE("device: a GPU trace of profile and validate, counters of generate") {
  const Workplace w;
  w.need_device();
  const std::string model = " --model " + w.model + " --device cuda", trace = w / "t.h5";
  must_run("profile" + model + " --data " + (w / "seen.jsonl") + " --limit 1 --gpu-trace " + (w / "p.json") +
           " --out " + trace);
  const Json of_profile = json_of(w / "p.json");
  int n_attributed = 0;
  for (const Json& event : of_profile["traceEvents"])
    n_attributed += event["ph"] == "X" && event["cat"] == "kernel" && event["args"].contains("phase");
  CHECK(n_attributed > n_layers);
  must_run("calibrate " + trace + grid + " --objective recall --budget attended=1.8 --out " + (w / "c.json"));
  must_run("validate" + model + " --data " + (w / "held_out.jsonl") + " --limit 4 --config " +
           (w / "c.json") + " --resamples 10 --gpu-trace " + (w / "v.json") + " --out " +
           (w / "validation.json"));
  CHECK(!json_of(w / "v.json")["traceEvents"].empty());

  // The text is there whether or not the driver shows counters to this user.
  const std::string generate = "generate" + model + " --prompt hello --max-new-tokens 4 --stats";
  const auto counted = run_program(generate + " --counters");
  CAPTURE(counted.output);
  CHECK(counted.output.find("new tokens in") != std::string::npos);
  if (counted.status == 0)
    CHECK(counted.output.find("| MB read |") != std::string::npos);
  else
    CHECK((counted.status == 1 && counted.output.find("\ndeltacal: counters: ") != std::string::npos));
  CHECK(run_program(generate + " --counters=auto").status == 0);
}

#ifdef REFUSING_CUPTI
TEST_CASE("device: counters that the driver keeps from this user are said to be missing, or left out") {
  const Workplace w;
  w.need_device();
  const auto run = [&](const std::string& arguments) {
    return run_program(arguments + " --device cuda --model " + w.model, "LD_PRELOAD=" REFUSING_CUPTI);
  };
  const std::string why = "counters: the driver shows them to administrators alone", out = w / "b.json",
                    generate = "generate --prompt hello --max-new-tokens 4 --stats",
                    bench = "bench --force --batch 2x64 --prefill-tokens 64 --repeats 2 --out " + out;
  for (const auto& [command, figure] :
       {std::pair(generate, "new tokens in"), {bench, "| decode step, full"}}) {
    const auto required = run(command + " --counters");
    CAPTURE(required.output);
    CHECK(required.status == 1);  // behind all else
    CHECK(required.output.find(figure) < required.output.find("\ndeltacal: " + why));
    CHECK(required.output.find("\ndeltacal: " + why) != std::string::npos);
    const auto optional = run(command + " --counters=auto");
    CAPTURE(optional.output);
    CHECK(optional.status == 0);
    CHECK(optional.output.find(figure) != std::string::npos);
    CHECK(optional.output.find("without " + why) != std::string::npos);
    CHECK(optional.output.find("| MB read |") == std::string::npos);
  }
  CHECK(json_of(out).contains("decode"));
  CHECK(!json_of(out).contains("counters"));
}
#endif

TEST_CASE("device: the cost table it measures is what calibrate takes for a budget in milliseconds") {
  const Workplace w;
  w.need_device();
  const std::string model = " --model " + w.model + " --device cuda", trace = w / "t.h5",
                    table = w / "cost.json", config = w / "c.json";
  must_run("profile" + model + " --data " + (w / "seen.jsonl") + " --out " + trace);
  must_run("bench" + model + " --rows 2 --contexts 1,1024 --k-pages 4,8,16 --repeats 2 --cost-table " +
           table);
  const Json json = json_of(table);
  CHECK(json["contexts"] == Json{1, 1024});
  CHECK(json["device"].get<std::string>().find("in bf16") != std::string::npos);
  for (const char* part : {"full_ms", "delta_ms", "other_ms"})
    for (const Json& ms : json[part]) CHECK(ms.get<double>() > 0);
  const std::string calibrate =
      "calibrate " + trace + grid + " --objective recall --cost " + table + " --out " + config;
  CHECK(run_program(calibrate + " --budget ms=0.0000001").status == 2);
  CHECK(!std::ifstream(config));
  must_run(calibrate + " --budget ms=1000000");
}

TEST_CASE("device: a batch that it has no memory for is refused with one that fits, and leaves nothing") {
  const Workplace w;
  w.need_device();
  const std::string model = w / "long.gguf", out = w / "b.json";
  test::write_tiny_model({.n_layers = n_layers, .head_dim = 64, .max_context = 1 << 20}, model);
  const auto outcome = run_program("bench --device cuda --model " + model +
                                   " --batch 4096x1048576 --prefill-tokens 64 --out " + out);
  CAPTURE(outcome.output);
  CHECK(outcome.status == 2);
  for (const char* part : {"--batch 4096x1048576 needs ", " GB of device memory (weights ", " would fit"})
    CHECK(outcome.output.find(part) != std::string::npos);
  CHECK(!std::ifstream(out));
}
