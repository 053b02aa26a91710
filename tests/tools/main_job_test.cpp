// The main job on a tiny random model, stage by stage and as one `run`.
#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <fstream>
#include <map>
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

// Ten problems of two traces each, about 300 tokens, in a folder with the model.
struct Workplace {
  test::Scratch folder;
  std::string model = folder / "m.gguf", data = folder / "traces.jsonl";
  Workplace() {
    test::write_tiny_model({.n_layers = 6}, model);
    std::ofstream out(data);
    for (int problem = 0; problem < 10; ++problem)
      for (int trace = 0; trace < 2; ++trace) {
        std::string response;
        for (int i = 0; i < 40; ++i)
          response += "step " + std::to_string((i * (7 + problem) + trace * 13) % 97) + " ";
        out << Json{{"id", "p" + std::to_string(problem) + "t" + std::to_string(trace)},
                    {"task", "toy"},
                    {"problem", problem},
                    {"question", "What is " + std::to_string(problem) + "?"},
                    {"response", response}}
                   .dump()
            << "\n";
      }
  }
  std::string operator/(const std::string& name) const { return folder / name; }
  std::string common(const std::string& out) const {
    return " --model " + model + " --data " + data + " --dtype f32 --out " + out;
  }
};

Json json_of(const std::string& path) {
  return Json::parse(read_file(path));
}

const std::string grid = " --k-pages 2,4,8 --l-pages 1,2";

void check_done(const test::Outcome& outcome) {
  CAPTURE(outcome.output);
  CHECK(outcome.status == 0);
}

}  // namespace

TEST_CASE(
    "run: splits by problem, validates what calibration has not seen, and a second call does nothing again") {
  const Workplace w;
  const std::string command = "run --model " + w.model + " --data " + w.data +
                              " --dtype f32 --steps 64 --budget attended=1.5" + grid +
                              " --resamples 200 --max-nll-gap 100 --out-dir " + (w / "out");
  check_done(run_program(command));
  const Json config = json_of(w / "out/delta_config.json"), validation = json_of(w / "out/validation.json");
  std::set<std::string> seen, held_out;
  for (const auto& sample : config["provenance"]["samples"])
    seen.insert(sample["problem"].get<std::string>());
  for (const auto& sample : validation["policies"][0]["samples"])
    held_out.insert(sample["problem"].get<std::string>());
  CHECK(seen.size() + held_out.size() == 10);
  for (const auto& problem : held_out) CHECK(!seen.contains(problem));
  std::set<std::string> names;
  for (const auto& policy : validation["policies"]) {
    names.insert(policy["name"].get<std::string>());
    if (policy["name"] == "delta") {
      CHECK(policy["attended_ratio"].get<double>() > 1.3);
      CHECK(policy["active"]["nll_gap"]["low"].is_number());
    }
  }
  CHECK(names == std::set<std::string>{"full", "delta", "delta:cosine-peaks", "streaming"});
  CHECK(validation["verdict"]["passed"] == true);
  CHECK(read_file(w / "out/report.html").find("Figure 1") != std::string::npos);

  const auto stamp = fs::last_write_time(w / "out/trace.h5");
  const auto again = run_program(command);
  check_done(again);
  CHECK(again.output.find("trace.h5: there already, skipped") != std::string::npos);
  CHECK(fs::last_write_time(w / "out/trace.h5") == stamp);

  // Another recipe in the same folder would mix two experiments.
  const auto other = run_program(command + " --seed 5");
  CHECK(other.status == 2);
  CHECK(other.output.find("was made with seed = 0, now it is 5") != std::string::npos);

  // Another threshold keeps the trace and the config.
  const auto strict = run_program(command + " --min-attended-ratio 50");
  CHECK(strict.status == 3);
  CHECK(strict.output.find("min_attended_ratio = null, now it is 50") != std::string::npos);
  CHECK(fs::last_write_time(w / "out/trace.h5") == stamp);
  CHECK(json_of(w / "out/validation.json")["verdict"]["passed"] == false);
}

TEST_CASE("run: a mistake is found before anything is made, and --force never removes what it did not make") {
  const Workplace w;
  const std::string common = "run --model " + w.model + " --dtype f32 --out-dir " + (w / "out");
  for (const char* bad : {" --k-pages 2 --l-pages 4", " --budget attended=0.2", " --steps x", " --limit 1"}) {
    CHECK(run_program(common + " --data " + w.data + bad).status == 2);
    CHECK(!fs::exists(w / "out"));
  }
  fs::create_directory(w / "out");
  fs::copy(w.data, w / "out/validation.jsonl");
  for (const std::string& data : std::vector<std::string>{w / "out/validation.jsonl", w.data}) {
    const auto outcome = run_program(common + " --force --data " + data);
    CAPTURE(outcome.output);
    CHECK(outcome.status == 2);
    CHECK(read_file(w / "out/validation.jsonl") == read_file(w.data));
  }
}

TEST_CASE(
    "profile: a continuation that ends before the first recorded step is left out, the others are kept") {
  const Workplace w;
  const std::string decode = "profile" + w.common(w / "d.h5") +
                             " --mode decode --temperature 30 --max-new-tokens 400 --seed 2 --limit 8";
  const auto outcome = run_program(decode + " --steps 64");
  CAPTURE(outcome.output);
  CHECK(outcome.status == 0);
  const size_t left_out = outcome.output.find("is left out: its continuation ended") != std::string::npos;
  CHECK(left_out == 1);
  const int kept = trace::Reader(w / "d.h5").n_samples();
  CHECK((kept >= 1 && kept < 8));
}

TEST_CASE("stages: profile in shards, merge, analyze, calibrate, validate, report, inspect") {
  const Workplace w;
  check_done(run_program("profile" + w.common(w / "a.h5") + " --steps 64 --limit 6 --shard 0/2 --sensitivity" + grid));
  check_done(
      run_program("profile" + w.common(w / "b.h5") + " --steps 64 --limit 6 --shard 1/2 --maps heads --sensitivity --draws 2" + grid));
  check_done(run_program("merge " + (w / "a.h5") + " " + (w / "b.h5") + " --out " + (w / "t.h5")));
  CHECK(trace::Reader(w / "t.h5").n_samples() == 6);
  check_done(run_program("analyze " + (w / "t.h5") + grid + " --out " + (w / "analysis.json")));
  check_done(
      run_program("calibrate " + (w / "t.h5") + grid + " --budget attended=1.4 --out " + (w / "c.json")));
  const Json made = json_of(w / "c.json")["provenance"];
  CHECK(made["objective"] == "kl");
  CHECK(made["loss"].get<double>() > 0);
  CHECK(json_of(w / "analysis.json")["predicted_kl"].size() == json_of(w / "analysis.json")["recall"].size());
  check_done(run_program("calibrate " + (w / "t.h5") + grid + " --objective recall --budget attended=1.4 --out " +
                         (w / "recall.json")));
  CHECK(json_of(w / "recall.json")["provenance"]["objective"] == "recall");
  // The candidates are the solver's whatever their order; cross terms are known of the predicted KL alone.
  std::map<std::string, Json> ordered;
  for (const std::string order : {"additive", "layers", "steps"}) {
    check_done(run_program("calibrate " + (w / "t.h5") + grid + " --budget attended=1.4 --order " + order + " --out " +
                           (w / (order + ".json"))));
    ordered[order] = json_of(w / (order + ".json"))["provenance"];
    CHECK(ordered[order]["order"] == order);
  }
  CHECK(made["order"] == "additive");
  CHECK(made["alternatives"] == ordered["additive"]["alternatives"]);
  const auto losses = [&](const std::string& order) {
    std::vector<double> all;
    for (const Json& a : ordered[order]["alternatives"]) all.push_back(a["loss"].get<double>());
    return all;
  };
  std::vector<double> additive = losses("additive"), steps = losses("steps");
  CHECK(std::is_sorted(additive.begin(), additive.end()));
  CHECK(steps != additive);
  std::sort(steps.begin(), steps.end());
  CHECK(steps == additive);
  const auto unordered = run_program("calibrate " + (w / "t.h5") + grid +
                                     " --objective recall --order steps --budget attended=1.4 --out " + (w / "x.json"));
  CHECK(unordered.status == 2);
  CHECK(unordered.output.find("cross terms are known of the objective kl") != std::string::npos);
  const auto other_grid = run_program("calibrate " + (w / "t.h5") + " --k-pages 3 --l-pages 1 --budget attended=1.4 --out " + (w / "x.json"));
  CHECK(other_grid.status == 2);
  CHECK(other_grid.output.find("no predicted KL for K = 3, L = 1") != std::string::npos);
  check_done(run_program("calibrate " + (w / "t.h5") + grid + " --min-recall 0.5 --out " + (w / "m.json")));
  check_done(run_program("calibrate " + (w / "t.h5") + grid + " --max-kl 0.05 --out " + (w / "kl.json")));
  check_done(run_program("calibrate " + (w / "t.h5") + grid + " --budget bytes=400K --out " + (w / "bytes.json")));
  for (const std::string method : {"recall-dp", "kascade", "tidal", "cosine-peaks", "uniform", "random"})
    check_done(run_program("calibrate " + (w / "t.h5") + grid + " --budget attended=1.4 --method " + method +
                           " --out " + (w / (method + ".json"))));

  // Lines 7 to 20 are of other problems than the first six.
  std::ifstream in(w.data);
  std::ofstream out(w / "rest.jsonl");
  std::string line;
  for (int i = 0; std::getline(in, line); ++i)
    if (i >= 6) out << line << "\n";
  out.close();
  const std::string validate = "validate --model " + w.model + " --dtype f32 --data " + (w / "rest.jsonl") +
                               " --config " + (w / "c.json") + " --config uniform=" + (w / "uniform.json");
  check_done(run_program(validate + " --out " + (w / "v.json")));
  const auto strict = run_program(validate + " --max-nll-gap -1 --out " + (w / "strict.json"));
  CHECK(strict.status == 3);
  CHECK(json_of(w / "strict.json")["verdict"]["passed"] == false);

  for (const std::string format : {"html", "md", "csv", "json"})
    check_done(run_program("report " + (w / "analysis.json") + " " + (w / "c.json") + " " + (w / "v.json") +
                           " --format " + format + " --out " + (w / ("report." + format))));
  for (const std::string file : {"m.gguf", "t.h5", "analysis.json", "c.json", "v.json"}) {
    check_done(run_program("inspect " + (w / file)));
    CHECK(Json::parse(run_program("inspect --json " + (w / file)).output).contains("kind"));
  }
  const auto text = run_program("generate --model " + w.model + " --config " + (w / "c.json") +
                                " --prompt hello --max-new-tokens 40 --stats");
  check_done(text);
  CHECK(text.output.find("attended-token ratio") != std::string::npos);
}

TEST_CASE("profile: killed at any time, it resumes to the same datasets") {
  const Workplace w;
  const std::string whole = "profile" + w.common(w / "whole.h5") + " --steps 64 --limit 8",
                    cut = "profile" + w.common(w / "cut.h5") + " --steps 64 --limit 8";
  check_done(run_program(whole));
  // Killed between the rename of the output and the removal of the folder, both are there: --resume goes on from
  // plan.json, the first file of the folder to go.
  const auto begun = [&] { return fs::exists(w / "cut.h5.partial/plan.json"); };
  for (const char* seconds : {"0.15", "0.3", "0.5"}) {
    run_program(cut + (begun() ? " --resume" : ""), std::string("timeout -s KILL ") + seconds);
    if (fs::exists(w / "cut.h5")) break;
  }
  if (begun() || !fs::exists(w / "cut.h5")) {
    check_done(run_program(cut + (begun() ? " --resume" : "")));
    CHECK(!fs::exists(w / "cut.h5.partial"));  // a run that was not killed leaves nothing
  }
  const trace::Reader a(w / "whole.h5"), b(w / "cut.h5");
  REQUIRE(a.n_samples() == b.n_samples());
  for (int i = 0; i < a.n_samples(); ++i) {
    CHECK(a.token_ids(i) == b.token_ids(i));
    CHECK(a.steps(i) == b.steps(i));
    CHECK(a.nll(i) == b.nll(i));
    const int n = int(a.steps(i).size());
    CHECK(a.pages(i, 0, 6, 0, n).score == b.pages(i, 0, 6, 0, n).score);
    CHECK(a.pages(i, 0, 6, 0, n).mass == b.pages(i, 0, 6, 0, n).mass);
  }
}

TEST_CASE("calibrate: methods compared, candidates re-ranked and greedy, on development traces; a run that was stopped goes on") {
  const Workplace w;
  check_done(run_program("profile" + w.common(w / "t.h5") + " --steps 64 --limit 6 --sensitivity" + grid));
  std::ifstream in(w.data);
  std::ofstream out(w / "dev.jsonl");
  std::string line;
  for (int i = 0; std::getline(in, line); ++i)
    if (i >= 6 && i < 16) out << line << "\n";
  out.close();
  const std::string calibrate = "calibrate " + (w / "t.h5") + grid + " --budget attended=1.4 --model " + w.model +
                                " --dtype f32 --data " + (w / "dev.jsonl") + " --rerank-samples 8 --candidates 3";
  const std::string evaluations = " --evaluations " + (w / "runs.jsonl");
  const auto compared = run_program(calibrate + " --compare --out " + (w / "compare.json") + evaluations);
  check_done(compared);
  CHECK(compared.output.find(
            "8 of 10 samples, of 5 problems: p3t0, p4t0, p5t0, p6t0, p7t0, p3t1, p4t1, p5t1\n") !=
        std::string::npos);
  const Json table = json_of(w / "compare.json");
  std::vector<std::string> names;
  for (const Json& row : table["methods"]) {
    names.push_back(row["name"]);
    CHECK(row["attended_ratio"].get<double>() >= 1.4 - 1e-6);
    CHECK(row["kl"]["mean"].get<double>() > 0);
    CHECK(row["nll_gap"]["low"].get<double>() <= row["nll_gap"]["mean"].get<double>());
    if (names.size() > 1) CHECK(row["vs_winner"]["mean"].get<double>() ==
                                Catch::Approx(row["nll_gap"]["mean"].get<double>() - table["methods"][0]["nll_gap"]["mean"].get<double>()).margin(1e-5));
  }
  CHECK(std::set<std::string>(names.begin(), names.end()) ==
        std::set<std::string>{"dp", "recall-dp", "cosine-peaks", "kascade", "tidal", "uniform", "random", "greedy-nll"});
  CHECK(table["surrogates"].size() == 5);
  CHECK(table["pareto"].size() >= 1);
  CHECK(read_file(w / "compare.md").find("| **dp** |") != std::string::npos);
  for (const std::string format : {"html", "md", "csv", "json"})
    check_done(run_program("report " + (w / "compare.json") + " --format " + format + " --out " +
                           (w / ("r." + format))));
  for (const char* figure : {"methods", "methods-difference", "pareto", "surrogates", "stability"})
    CHECK(read_file(w / "r.html").find("id=\"" + std::string(figure) + "\"") != std::string::npos);
  const Json inspected = Json::parse(run_program("inspect --json " + (w / "compare.json")).output);
  CHECK(inspected["winner"] == "dp");
  CHECK(inspected["methods"][1]["vs_winner"] == table["methods"][1]["vs_winner"]);

  // Cut off in the middle of a line: the finished runs are used again, the table is the same.
  std::string runs = read_file(w / "runs.jsonl");
  const auto n_runs = std::count(runs.begin(), runs.end(), '\n');
  std::ofstream(w / "runs.jsonl", std::ios::binary) << runs.substr(0, runs.size() - 25);
  const auto again = run_program(calibrate + " --compare --out " + (w / "again.json") + evaluations);
  check_done(again);
  CHECK(again.output.find(": 1 schedules were run") != std::string::npos);
  runs = read_file(w / "runs.jsonl");
  CHECK(std::count(runs.begin(), runs.end(), '\n') == n_runs);
  Json repeated = json_of(w / "again.json");
  for (size_t i = 0; i < names.size(); ++i) CHECK(repeated["methods"][i]["nll_gap"] == table["methods"][i]["nll_gap"]);

  check_done(run_program(calibrate + " --rerank 3 --out " + (w / "reranked.json") + evaluations));
  const Json made = json_of(w / "reranked.json");
  CHECK(made["provenance"]["rerank"]["rounds"].size() >= 1);
  CHECK(made["provenance"]["development"]["pack"] == 0);
  check_done(
      run_program(calibrate + " --rerank 2 --k-per segment --out " + (w / "segment.json") + evaluations));
  CHECK(json_of(w / "segment.json")["provenance"]["rerank"]["stopped"] ==
        "no local search: it moves pages between layers, which share a k under --k-per segment");
  CHECK(made["provenance"]["rerank"]["nll_gap"]["mean"].get<double>() <=
        table["methods"][0]["nll_gap"]["mean"].get<double>() + 1e-6);
  // What re-ranking has seen is not held out.
  const auto seen = run_program("validate --model " + w.model + " --dtype f32 --data " + (w / "dev.jsonl") + " --config " +
                                (w / "reranked.json") + " --out " + (w / "v.json"));
  CHECK(seen.status == 2);
  CHECK(seen.output.find("were seen when") != std::string::npos);
  check_done(run_program(calibrate + " --method greedy-nll --out " + (w / "greedy.json") + evaluations));
  CHECK(json_of(w / "greedy.json")["provenance"]["method"] == "greedy-nll");

  const auto other = run_program(calibrate + " --rerank 2 --out " + (w / "x.json") + " --evaluations " + (w / "compare.json"));
  CHECK(other.status == 2);
  CHECK(other.output.find("another kind of file") != std::string::npos);
  std::ofstream(w / "precious.json") << "{\"no\": \"newline\"}";
  CHECK(run_program(calibrate + " --rerank 2 --out " + (w / "x.json") + " --evaluations " + (w / "precious.json")).status == 2);
  CHECK(read_file(w / "precious.json") == "{\"no\": \"newline\"}");
  const auto impossible = run_program(calibrate + " --budget attended=500 --compare --out " + (w / "x.json"));
  CHECK(impossible.status == 2);
}

TEST_CASE("calibrate: under the page score max the loss is that of its own ranking, and nothing is said of recall") {
  const Workplace w;
  check_done(run_program("profile" + w.common(w / "t.h5") + " --steps 64 --limit 6 --sensitivity --rankings max" + grid));
  const std::string calibrate =
      "calibrate " + (w / "t.h5") + grid + " --budget attended=1.4 --score-page max --out ";
  const auto outcome = run_program(calibrate + (w / "c.json") + " --alternatives-dir " + (w / "others"));
  check_done(outcome);
  CHECK(outcome.output.find("score max\n") != std::string::npos);
  CHECK(outcome.output.find("kascade: it chooses by recall") != std::string::npos);
  const Json config = json_of(w / "c.json");
  CHECK(config["score"] == Json{{"page", "max"}});
  CHECK(config["expected"]["recall"].empty());
  CHECK(config["provenance"]["alternatives"][0]["mean_recall"].is_null());
  CHECK(json_of(w / "others/uniform.json")["score"] == config["score"]);
  CHECK(!std::filesystem::exists(w / "others/tidal.json"));

  // The sum over its edges of the samples' mean, from the trace.
  const trace::Reader trace(w / "t.h5");
  double of_max = 0, of_sum = 0;
  for (int sample = 0; sample < 6; ++sample) {
    const trace::EdgeSensitivity edges = trace.sensitivity(sample);
    REQUIRE(edges.rankings.size() == 1);
    int source = 0;
    for (int layer = 0; layer < 6; ++layer) {
      const Json& plan = config["layers"][layer];
      if (plan["role"] == "delta") source = layer;
      if (plan["role"] != "sparse") continue;
      const PageBudget budget{plan["k_pages"], config["layers"][source]["l_pages"]};
      const size_t e = std::ranges::find(edges.budgets, budget) - edges.budgets.begin();
      REQUIRE(e < edges.budgets.size());
      of_max += edges.rankings[0].kl[(e * 6 + layer) * 6 + source] / 6;
      of_sum += edges.kl[(e * 6 + layer) * 6 + source] / 6;
    }
  }
  CHECK(config["provenance"]["loss"].get<double>() == Catch::Approx(of_max).epsilon(1e-4));
  CHECK(of_max != Catch::Approx(of_sum).epsilon(1e-3));

  check_done(run_program("validate --model " + w.model + " --dtype f32 --data " + w.data + " --allow-overlap --limit 4 --config " +
                         (w / "c.json") + " --out " + (w / "v.json")));
  check_done(run_program("report " + (w / "c.json") + " " + (w / "v.json") + " --out " + (w / "r.html")));
  check_done(run_program("inspect " + (w / "c.json")));
}

TEST_CASE("calibrate: a sample too short to lose anything counts as 0, in the loss and in its bound") {
  const Workplace w;
  // Every problem once more, cut to 40 tokens: 3 pages, where nothing is left out at k = 4.
  std::ifstream in(w.data);
  std::ofstream out(w / "short.jsonl");
  std::string line;
  for (int i = 0; std::getline(in, line); ++i)
    if (i % 2 == 0 && i < 12) out << line << "\n";
  out.close();
  const std::string record = "profile --model " + w.model + " --dtype f32 --sensitivity --steps 32 --rankings max,refresh:4 --k-pages 4,8 --l-pages 1";
  check_done(run_program(record + " --data " + w.data + " --limit 12 --out " + (w / "long.h5")));
  check_done(run_program(record + " --data " + (w / "short.jsonl") + " --max-tokens 40 --out " + (w / "short.h5")));
  check_done(run_program("merge " + (w / "long.h5") + " " + (w / "short.h5") + " --out " + (w / "both.h5")));
  const std::string rest = " --k-pages 4,8 --l-pages 1 --context 300 --max-kl 0.02 --out ";
  check_done(run_program("calibrate " + (w / "long.h5") + rest + (w / "long.json")));
  check_done(run_program("calibrate " + (w / "both.h5") + rest + (w / "both.json")));
  const Json a = json_of(w / "long.json")["provenance"], b = json_of(w / "both.json")["provenance"];
  // With a third of the samples at 0 the mean falls, so that more may be left out for the same target.
  CHECK(a["budget"] == "max-kl=0.02");
  CHECK(b["attended_ratio"].get<double>() >= a["attended_ratio"].get<double>());
  CHECK(b["loss"].get<double>() <= 0.02);
  CHECK(b["loss"].get<double>() >= 0.4 * a["loss"].get<double>());
  const auto inspected = Json::parse(run_program("inspect --json " + (w / "both.h5")).output);
  CHECK(inspected["samples"][0]["sensitivity"]["k_pages"] == Json{4, 8});
  CHECK(inspected["samples"][0]["sensitivity"]["rankings"] == Json{"sum", "max", "refresh:4"});
}
