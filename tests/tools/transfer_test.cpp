// Packed samples and transfer between tasks, through the command line on a tiny random model.
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "core/files.h"
#include "program.h"
#include "support/scratch.h"
#include "support/tiny_model.h"
#include "trace/trace.h"

using namespace deltacal;
using Json = nlohmann::json;
using test::run_program;
namespace fs = std::filesystem;

namespace {

const std::string grid = " --k-pages 2,4,8 --l-pages 1,2";

std::string line(const std::string& task, int problem, int words) {
  std::string response;
  for (int i = 0; i < words; ++i) response += "step " + std::to_string(i * (7 + problem) % 97) + " ";
  return Json{{"id", task + std::to_string(problem)},
              {"task", task},
              {"problem", problem},
              {"question", "What is " + std::to_string(problem) + "?"},
              {"response", response}}
             .dump() +
         "\n";
}

// Traces of some 300 tokens (task toy) and problems of some 80 (task sum): 0 to 4 and 0 to 19 to calibrate
// on, the others to measure on.
struct Workplace {
  test::Scratch folder;
  std::string model = folder / "m.gguf";
  Workplace() {
    test::write_tiny_model({.n_layers = 6}, model);
    std::string toy, sum, development;
    for (int i = 0; i < 5; ++i) toy += line("toy", i, 40);
    for (int i = 0; i < 20; ++i) sum += line("sum", i, 8);
    for (int i = 5; i < 10; ++i) development += line("toy", i, 40);
    for (int i = 20; i < 40; ++i) development += line("sum", i, 8);
    write("toy.jsonl", toy);
    write("sum.jsonl", sum);
    write("dev.jsonl", development);
  }
  std::string operator/(const std::string& name) const { return folder / name; }
  std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(folder / name, std::ios::binary) << content;
    return folder / name;
  }
  std::string profile(const std::string& data, const std::string& out, const std::string& more) const {
    return "profile --model " + model + " --dtype f32 --data " + (folder / data) + " --out " +
           (folder / out) + more;
  }
  std::string transfer(const std::string& out, const std::string& more) const {
    return "calibrate " + (folder / "t.h5") + grid + " --transfer --budget attended=1.3 --model " + model +
           " --dtype f32 --data " + (folder / "dev.jsonl") + " --pack 200 --evaluations " +
           (folder / "runs.jsonl") + " --out " + (folder / out) + more;
  }
};

Json json_of(const std::string& path) {
  return Json::parse(read_file(path));
}

test::Outcome done(const std::string& arguments) {
  const auto outcome = run_program(arguments);
  CAPTURE(arguments, outcome.output);
  CHECK(outcome.status == 0);
  return outcome;
}

void refused(const std::string& arguments, const std::string& what) {
  const auto outcome = run_program(arguments);
  CAPTURE(arguments, outcome.output);
  CHECK(outcome.status == 2);
  CHECK(outcome.output.find(what) != std::string::npos);
}

}  // namespace

TEST_CASE("pack: problems packed into samples are told, kept apart in a split, and known to every check") {
  const Workplace w;
  const auto outcome = done(w.profile("sum.jsonl", "s.h5", " --pack 200 --steps 64"));
  CHECK(outcome.output.find("lines are packed into") != std::string::npos);
  const trace::Reader trace(w / "s.h5");
  REQUIRE(trace.n_samples() >= 4);
  std::set<std::string> parts;
  for (int i = 0; i < trace.n_samples(); ++i) {
    CHECK(trace.info(i).n_tokens >= 200);
    CHECK(trace.info(i).parts.size() >= 2);
    CHECK(trace.info(i).task == "sum");
    for (const auto& part : trace.info(i).parts) CHECK(parts.insert(part).second);
  }
  CHECK(parts.contains("sum/0"));
  CHECK(Json::parse(done("inspect --json " + (w / "s.h5")).output)["samples"][0]["n_packed"] ==
        trace.info(0).parts.size());

  // One line of a pack, by itself and in another order: the same problem.
  done("calibrate " + (w / "s.h5") + grid + " --budget attended=1.2 --out " + (w / "c.json"));
  CHECK(json_of(w / "c.json")["provenance"]["samples"][0]["parts"].size() == trace.info(0).parts.size());
  w.write("one.jsonl", line("sum", 1, 40));
  const std::string on_one =
      " --model " + w.model + " --dtype f32 --data " + (w / "one.jsonl") + " --out " + (w / "x.json");
  refused("validate --config " + (w / "c.json") + on_one, "(the same problem)");
  refused("calibrate " + (w / "s.h5") + grid + " --budget attended=1.2 --compare" + on_one,
          "(the same problem)");
  // And packed on the other side.
  w.write("two.jsonl", line("sum", 70, 12) + line("sum", 71, 12) + line("sum", 3, 12));
  const std::string on_two =
      " --model " + w.model + " --dtype f32 --data " + (w / "two.jsonl") + " --pack 300";
  refused("validate --config " + (w / "c.json") + on_two + " --out " + (w / "x.json"), "(the same problem)");

  // `run` packs before it splits, and its stages see the same samples again.
  done("run --model " + w.model + " --dtype f32 --data " + (w / "sum.jsonl") +
       " --pack 200 --steps 64 --budget attended=1.2" + grid + " --resamples 50 --baselines none --out-dir " +
       (w / "out"));
  std::set<std::string> calibrated;
  const Json samples = json_of(w / "out/delta_config.json")["provenance"]["samples"];
  for (const Json& sample : samples)
    for (const Json& part : sample["parts"]) calibrated.insert(part.get<std::string>());
  std::set<std::string> packs;
  for (int i = 0; i < trace.n_samples(); ++i) packs.insert(trace.info(i).id);
  CHECK(json_of(w / "out/validation.json")["pack"] == 200);
  const Json held_out = json_of(w / "out/validation.json")["policies"][0]["samples"];
  CHECK(samples.size() + held_out.size() == packs.size());
  for (const Json& sample : samples) CHECK(packs.contains(sample["id"]));
  for (const Json& sample : held_out) CHECK(packs.contains(sample["id"]));
  CHECK(calibrated.size() < parts.size());
}

TEST_CASE(
    "calibrate --transfer: a schedule for each task measured on each, from a merged trace, and the learning "
    "curve") {
  const Workplace w;
  done(w.profile("toy.jsonl", "toy.h5", " --steps 64 --sensitivity" + grid));
  done(w.profile("sum.jsonl", "sum.h5", " --pack 200 --steps 48 --sensitivity" + grid));
  done(w.profile("toy.jsonl", "own.h5",
                 " --mode decode --task own --temperature 2 --max-new-tokens 300 --seed 3 --steps all "
                 "--sensitivity" +
                     grid));
  done("merge " + (w / "toy.h5") + " " + (w / "sum.h5") + " " + (w / "own.h5") + " --out " + (w / "t.h5"));
  const auto first = done(w.transfer("transfer.json", " --resamples 100 --curve-draws 2"));
  CHECK(first.output.find(" schedules x ") != std::string::npos);
  const Json t = json_of(w / "transfer.json");
  CHECK(t["device"] == "cpu");
  CHECK(t["dtype"] == "f32");
  const auto tasks = [](const Json& list) {
    std::vector<std::string> names;
    for (const Json& one : list) names.push_back(one["task"]);
    return names;
  };
  CHECK(tasks(t["schedules"]) == std::vector<std::string>{"toy", "sum", "own", "all"});
  CHECK(tasks(t["measured_on"]) == std::vector<std::string>{"toy", "sum", "all"});
  CHECK(t["schedules"][1]["n_packed"].get<int>() > t["schedules"][1]["n_samples"].get<int>());
  CHECK(t["schedules"][2]["n_packed"] == 0);
  CHECK((t["objective"] == "kl" && t["pack"] == 200 && t["context"].is_null()));
  for (const Json& schedule : t["schedules"]) CHECK(schedule["attended_ratio"].get<double>() >= 1.3);
  REQUIRE(t["matrix"].size() == 4);
  for (size_t i = 0; i < 4; ++i)
    for (size_t j = 0; j < 3; ++j) {
      const Json& cell = t["matrix"][i][j];
      CHECK(cell["kl"]["mean"].get<double>() > 0);
      CHECK(cell["attended_ratio"].get<double>() > 1.1);
      const size_t own = j == 2 ? 3 : j;
      CHECK(cell["vs_own"].is_null() == (i == own));
      if (i != own)
        CHECK(cell["vs_own"]["mean"].get<double>() ==
              Catch::Approx(cell["nll_gap"]["mean"].get<double>() -
                            t["matrix"][own][j]["nll_gap"]["mean"].get<double>())
                  .margin(1e-5));
    }
  const Json& curve = t["learning_curve"];
  const int n = t["schedules"][3]["n_samples"];
  CHECK((curve[0]["n_samples"] == 1 &&
         curve[0]["n_draws"].get<int>() + curve[0]["n_unsolved"].get<int>() == 2));
  CHECK((curve.back()["n_samples"] == n && curve.back()["vs_all"]["mean"] == 0 &&
         curve.back()["n_draws"] == 1));
  CHECK(curve.back()["nll_gap"] == t["matrix"][3][2]["nll_gap"]);
  const auto fewer =
      std::find_if(curve.begin(), curve.end(), [](const Json& row) { return row["n_steps"] == 32; });
  REQUIRE(fewer != curve.end());
  CHECK((*fewer)["n_samples"] == n);
  CHECK(t["curve_reason"].is_null());
  CHECK(read_file(w / "transfer.md").find("| calibrated on | toy | sum | all |") != std::string::npos);
  const Json inspected = Json::parse(done("inspect --json " + (w / "transfer.json")).output);
  CHECK((inspected["kind"] == "transfer" && inspected["pack"] == 200));
  REQUIRE((inspected["schedules"].size() == 4 && inspected["measured_on"].size() == 3));
  CHECK((inspected["schedules"][1]["calibrated_on"] == "sum" &&
         inspected["schedules"][1]["schedule"] == t["schedules"][1]["schedule"]));
  CHECK(inspected["nll_gap"][2]["calibrated_on"] == "own");
  CHECK(inspected["nll_gap"][2]["measured_on"]["sum"] == t["matrix"][2][1]["nll_gap"]["mean"]);
  CHECK(done("inspect " + (w / "transfer.json")).output.find("  calibrated_on         own\n") !=
        std::string::npos);

  // Again, with a budget of one length: no run is made twice, and the curve can be left out.
  const auto again = done(w.transfer("again.json", " --resamples 100 --curve-draws 2"));
  CHECK(again.output.find(": 0 schedules were run") != std::string::npos);
  CHECK(json_of(w / "again.json")["matrix"] == t["matrix"]);
  done(w.transfer("context.json", " --curve none --context 256 --rerank-samples 2"));
  const Json short_one = json_of(w / "context.json");
  CHECK((short_one["context"] == 256 && short_one["learning_curve"].empty() &&
         short_one["curve_reason"].is_string()));
  CHECK((short_one["measured_on"][0]["n_samples"] == 2 && short_one["measured_on"][2]["n_samples"] == 4));
  CHECK(short_one["measured_on"][0]["reason"] == "fewer than 4 problems: 2");
  done(w.transfer("recall.json", " --objective recall --curve-draws 1 --rerank-samples 2"));
  CHECK(json_of(w / "recall.json")["curve_reason"].get<std::string>().find("fewer steps: not tried") == 0);
}

TEST_CASE("pack and transfer: mistakes are refused with what to do") {
  const Workplace w;
  const auto profile = [&](const std::string& more) { return w.profile("sum.jsonl", "new.h5", more); };
  refused(profile(" --pack 0"), "--pack");
  refused(profile(" --pack 100000"), "--pack 100000: the model's context is 512");
  refused(profile(" --pack 512"), "fit the model's context of 512: cut it with --max-tokens 512");
  refused(profile(" --pack 200 --max-tokens 100"), "--max-tokens 100 would cut");
  refused(profile(" --pack 200 --mode decode"), "with --mode decode each prompt is continued");
  refused(profile(" --pack 200 --min-tokens 400"), "--min-tokens");
  refused(profile(" --task ''"), "give a name");
  w.write("few.jsonl", line("sum", 1, 8));
  refused(w.profile("few.jsonl", "new.h5", " --pack 200"), "lower --pack");
  CHECK(!fs::exists(w / "new.h5"));

  done(w.profile("toy.jsonl", "t.h5", " --steps 32 --sensitivity" + grid));
  done(w.profile("sum.jsonl", "other.h5", " --pack 200 --steps 32 --sensitivity --k-pages 2,4 --l-pages 1"));
  done("merge " + (w / "t.h5") + " " + (w / "other.h5") + " --out " + (w / "both.h5"));
  refused("calibrate " + (w / "both.h5") + grid + " --budget attended=1.2 --out " + (w / "new.json"),
          "no predicted KL for K = 2, L = 2; it was profiled with --k-pages 2,4 --l-pages 1");
  refused(w.transfer("new.json", " --compare"), "--compare");
  refused(w.transfer("new.json", " --rerank 2"), "--rerank");
  refused(w.transfer("new.json", " --method uniform"), "--transfer measures the method dp");
  refused(w.transfer("new.json", " --curve some"), "--curve");
  refused(w.transfer("new.json", " --curve-draws 0"), "--curve-draws");
  refused(w.transfer("new.json", " --curve none --curve-draws 2"), "--curve none draws no samples");
  refused(w.transfer("new.md", ""), "give NAME.json");
  const std::string plain = "calibrate " + (w / "t.h5") + grid + " --out " + (w / "new.json");
  refused(plain + " --budget attended=1.2 --transfer", "give --model M --data dev.jsonl");
  refused(plain + " --budget attended=1.2 --curve none", "--transfer");
  refused(plain + " --budget attended=1.2 --pack 5", "--data");
  const std::string data = " --transfer --model " + w.model + " --dtype f32 --data " + (w / "dev.jsonl") +
                           " --evaluations " + (w / "runs.jsonl");
  refused(plain + " --budget bytes=100K" + data, "--budget attended=R");
  refused(plain + " --budget attended=50" + data, "no schedule meets");
  w.write("dev.jsonl", line("all", 30, 40) + line("toy", 31, 40));
  refused(plain + " --budget attended=1.2" + data, "a task is called \"all\"");
  for (const auto& entry : fs::directory_iterator(w.folder.path()))
    CHECK(entry.path().filename().string().find("new.") != 0);
}
