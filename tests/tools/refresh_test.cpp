// Lists that serve several steps, from the config to every command that reads one.
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/files.h"
#include "program.h"
#include "support/scratch.h"
#include "support/tiny_model.h"

using namespace deltacal;
using Json = nlohmann::json;
using test::run_program;

namespace {

constexpr int n_tokens = 300, n_layers = 4, n_samples = 5;

// A model, token ids of five problems, and a config with a Δ-layer at 1.
struct Workplace {
  test::Scratch folder;
  std::string model = folder / "m.gguf", data = folder / "d.jsonl";
  Workplace() {
    test::write_tiny_model({.n_layers = n_layers}, model);
    std::ofstream out(data);
    for (int sample = 0; sample < n_samples; ++sample) {
      std::vector<int> ids;
      for (int i = 0; i < n_tokens; ++i) ids.push_back((i * (13 + sample) + i * i % 7) % 250);
      out << Json{{"id", std::to_string(sample)}, {"task", "toy"}, {"problem", sample}, {"input_ids", ids}}
                 .dump()
          << "\n";
    }
  }
  std::string operator/(const std::string& name) const { return folder / name; }
  std::string config(const std::string& name, const Json& refresh) const {
    Json c{{"format", "deltacal-config"},
           {"schema_version", 1},
           {"model",
            {{"architecture", "llama"},
             {"n_layers", n_layers},
             {"n_heads", 4},
             {"n_kv_heads", 2},
             {"head_dim", 32}}},
           {"page_size", 16},
           {"layers",
            {{{"role", "full"}},
             {{"role", "delta"}, {"k_pages", 6}, {"l_pages", 1}},
             {{"role", "sparse"}, {"k_pages", 4}},
             {{"role", "sparse"}, {"k_pages", 6}}}}};
    c.update(refresh);
    std::ofstream(folder / name) << c.dump();
    return folder / name;
  }
  Json validate(const std::string& arguments, const std::string& out, const std::string& on = "") const {
    const auto outcome =
        run_program("validate --dtype f32 --model " + model + " --data " + (on.empty() ? data : on) + " " +
                    arguments + " --resamples 100 --recall-steps 8 --out " + out);
    CAPTURE(outcome.output);
    REQUIRE(outcome.status == 0);
    return Json::parse(read_file(out))["policies"];
  }
};

// Positions of a step with k pages: the newest as far as it is filled.
long long positions(int k, int t) {
  return k >= t / 16 + 1 ? t + 1 : (k - 1) * 16 + t % 16 + 1;
}

}  // namespace

TEST_CASE("refresh: validate counts what is attended to, and compares it with a window at that cost") {
  const Workplace w;
  const auto every = w.config("every.json", Json::object()), eighth = w.config("eighth.json", {{"refresh_interval", 8}});
  const Json policies = w.validate("--config " + eighth + " --config every=" + every, w / "v.json");
  long long all = 0, attended = 0;
  for (int t = 0; t < n_tokens; ++t) {
    all += n_layers * (t + 1);
    attended += t + 1 + (t % 8 == 0 ? t + 1 : positions(6, t)) + positions(4, t) + positions(6, t);
  }
  std::map<std::string, double> ratio;
  for (const Json& p : policies) ratio[p["name"]] = p["attended_ratio"];
  CHECK(ratio["delta"] == Catch::Approx(double(all) / double(attended)).epsilon(1e-5));
  CHECK(ratio["delta"] > ratio["delta:every"] + 0.2);
  CHECK(ratio["streaming"] <= ratio["delta"] + 1e-6);
  CHECK(ratio["streaming"] > 0.98 * ratio["delta"]);
  for (const Json& p : policies)
    if (p["name"] == "delta") {
      CHECK(p["recall"][0]["layer"] == 1);  // the Δ-layer, between its lists
    }
  // The loss is another one than that of a new list at every step.
  CHECK(policies[1]["active"]["kl"]["mean"] != policies[2]["active"]["kl"]["mean"]);
}

TEST_CASE("refresh: adaptive, the attended tokens are those of the run, for the window too") {
  const Workplace w;
  const auto adaptive = [&](const char* name, double threshold, int most) {
    return w.config(
        name, {{"refresh", {{"signal", "query-cosine"}, {"threshold", threshold}, {"max_interval", most}}}});
  };
  const Json policies = w.validate("--config " + adaptive("never.json", -1, 1000) +
                                       " --config always=" + adaptive("always.json", 1, 1000) +
                                       " --config every=" + w.config("every.json", Json::object()) +
                                       " --config some=" + adaptive("some.json", 0.3, 30),
                                   w / "v.json");
  std::map<std::string, Json> by_name;
  for (const Json& p : policies) by_name[p["name"]] = p;
  const auto ratio = [&](const std::string& name) { return by_name[name]["attended_ratio"].get<double>(); };
  // A threshold of 1 is a new list at every step, one of -1 none but the first.
  CHECK(by_name["delta:always"]["active"] == by_name["delta:every"]["active"]);
  CHECK(ratio("delta:always") == ratio("delta:every"));
  CHECK(ratio("delta:some") < ratio("delta"));
  CHECK(ratio("delta:some") > ratio("delta:every"));
  CHECK(ratio("streaming") <= ratio("delta") + 1e-6);
  CHECK(ratio("streaming") > 0.9 * ratio("delta"));  // a page of one layer is 8%
}

TEST_CASE("refresh: generate, bench, inspect and report know it") {
  const Workplace w;
  const auto interval = w.config("interval.json", {{"refresh_interval", 5}}),
             adaptive = w.config(
                 "adaptive.json",
                 {{"refresh", {{"signal", "query-cosine"}, {"threshold", -1}, {"max_interval", 10}}}});
  const std::string generate = "generate --dtype f32 --model " + w.model +
                               " --chat none --prompt hello --max-new-tokens 100 --stats --config ";
  const auto text = run_program(generate + adaptive);
  CAPTURE(text.output);
  CHECK(text.status == 0);
  const size_t told = text.output.find("a Δ-layer made ");
  REQUIRE(told != std::string::npos);
  double lists = 0;
  int steps = 0;
  REQUIRE(std::sscanf(text.output.c_str() + told, "a Δ-layer made %lf lists in %d steps", &lists, &steps) ==
          2);
  CHECK(lists == (steps + 9) / 10);
  for (const auto& [config, words] :
       {std::pair{interval, "lists every 5 steps"},
        {adaptive, "lists at query cosine below -1, at least every 10 steps"}}) {
    CHECK(run_program("inspect " + config).output.find(words) != std::string::npos);
    const auto report = run_program("report " + config + " --format md --out " + (w / "r.md") + " --force");
    CAPTURE(report.output);
    CHECK(report.status == 0);
  }
  CHECK(read_file(w / "r.md").find("lists made at query-cosine below -1") != std::string::npos);
  const auto bench =
      run_program("bench --dtype f32 --model " + w.model + " --config " + interval +
                  " --contexts 256 --prefill-tokens 64 --repeats 1 --decode-steps 4 --out " + (w / "b.json"));
  CAPTURE(bench.output);
  CHECK(bench.status == 0);
}

TEST_CASE("refresh: calibrate chooses a schedule for an interval that the trace has, or the best interval") {
  const Workplace w;
  const std::string grid = " --k-pages 2,4,8 --l-pages 1,2";
  const auto profiled = run_program(
      "profile --dtype f32 --model " + w.model + " --data " + w.data +
      " --limit 3 --steps 64 --sensitivity --rankings refresh:4,refresh:8,cosine:0.1,cosine:0.3,max" + grid +
      " --out " + (w / "t.h5"));
  CAPTURE(profiled.output);
  REQUIRE(profiled.status == 0);
  const auto calibrate = [&](const std::string& rest, const std::string& out) {
    return run_program("calibrate " + (w / "t.h5") + grid + " --budget attended=1.5 " + rest + " --out " +
                       (w / out));
  };
  std::map<std::string, Json> config;
  for (const std::string refresh : {"1", "4", "8", "cosine:0.1", "cosine:0.3", "auto"}) {
    const auto outcome = calibrate("--refresh " + refresh, refresh + ".json");
    CAPTURE(refresh, outcome.output);
    REQUIRE(outcome.status == 0);
    config[refresh] = Json::parse(read_file(w / (refresh + ".json")));
    CHECK(config[refresh]["provenance"]["attended_ratio"].get<double>() >= 1.5 - 1e-6);
  }
  const auto loss = [&](const std::string& refresh) {
    return config[refresh]["provenance"]["loss"].get<double>();
  };
  CHECK(config["1"]["refresh_interval"] == 1);
  CHECK(config["4"]["refresh_interval"] == 4);
  CHECK(loss("auto") == std::min({loss("1"), loss("4"), loss("8"), loss("cosine:0.1"), loss("cosine:0.3")}));
  CHECK(config["cosine:0.3"]["refresh_interval"] == 1);
  CHECK(config["cosine:0.3"]["refresh"] ==
        Json{{"signal", "query-cosine"}, {"threshold", 0.3}, {"max_interval", 16}});
  CHECK(config["cosine:0.3"]["expected"]["attended_ratio"].empty());  // of other texts a run alone tells it
  CHECK(config["4"]["expected"]["recall"].empty());
  std::set<int> lengths;  // of lists: one for all
  for (const Json& layer : config["4"]["layers"])
    if (layer["role"] == "delta") lengths.insert(layer["k_pages"].get<int>());
  CHECK(lengths.size() == 1);
  // On the samples that it was made from, lists by a signal attend to about as much as the full pass said:
  // sparse layers below change the queries a little.
  for (const std::string refresh : {"cosine:0.1", "cosine:0.3"}) {
    const auto told = config[refresh]["provenance"]["attended_ratio"].get<double>();
    for (const Json& p : w.validate("--allow-overlap --limit 3 --config " + (w / (refresh + ".json")),
                                    w / (refresh + "v.json")))
      if (p["name"] == "delta") CHECK(p["attended_ratio"].get<double>() == Catch::Approx(told).epsilon(0.02));
  }
  // A target of loss is met at the least cost that any of the rankings allows.
  std::map<std::string, double> ratio;
  for (const std::string refresh : {"1", "4", "8", "cosine:0.1", "cosine:0.3", "auto"}) {
    const auto out = "kl-" + refresh + ".json";
    const auto outcome =
        run_program("calibrate " + (w / "t.h5") + grid + " --max-kl " + std::to_string(1.5 * loss("1")) +
                    " --refresh " + refresh + " --out " + (w / out));
    CAPTURE(refresh, outcome.output);
    REQUIRE(outcome.status == 0);
    ratio[refresh] = Json::parse(read_file(w / out))["provenance"]["attended_ratio"].get<double>();
  }
  for (const auto& [refresh, value] : ratio) CHECK(value <= ratio["auto"]);
  // What it is said to attend to is what it attends to.
  const Json policies = w.validate("--allow-overlap --limit 3 --config " + (w / "4.json"), w / "v.json");
  for (const Json& p : policies)
    if (p["name"] == "delta")
      CHECK(p["attended_ratio"].get<double>() ==
            Catch::Approx(config["4"]["provenance"]["attended_ratio"].get<double>()).epsilon(1e-5));

  const auto refused = [&](const std::string& arguments, const std::string& words) {
    const auto outcome = calibrate(arguments, "x.json");
    CAPTURE(arguments, outcome.output);
    CHECK(outcome.status == 2);
    CHECK(outcome.output.find(words) != std::string::npos);
  };
  refused("--refresh 2", "profile with --sensitivity --rankings refresh:2");
  refused("--refresh cosine:0.2", "profile with --sensitivity --rankings cosine:0.2");
  refused("--refresh cosine:2", "give the steps that a list serves");
  refused("--refresh refresh:4", "give the steps that a list serves");
  refused("--refresh cosine:0.3 --context 200", "of the samples' own steps, not of --context 200");
  refused("--refresh cosine:0.3 --score-page max", "profile with --sensitivity --rankings max+cosine:0.3");
  // Under auto, what cannot be said of a signal leaves the intervals.
  const auto of_context = calibrate("--refresh auto --context 200", "context.json");
  CAPTURE(of_context.output);
  CHECK(of_context.status == 0);
  CHECK(of_context.output.find("cosine:0.3 is left out: ") != std::string::npos);
  CHECK(Json::parse(read_file(w / "context.json"))["refresh"].is_null());
  // Where nothing meets a budget, the nearest is the cheapest of all rankings.
  const auto nothing = run_program("calibrate " + (w / "t.h5") + grid +
                                   " --budget attended=500 --refresh auto --out " + (w / "x.json"));
  CHECK(nothing.status == 2);
  CHECK(nothing.output.find("lists ") != std::string::npos);
  refused("--refresh often", "give the steps that a list serves");
  refused("--refresh 0", "give the steps that a list serves");
  refused("--refresh 4 --objective recall", "objective recall");
  refused("--refresh 4 --method uniform", "goes with --method dp");
  refused("--refresh 4 --transfer --dtype f32 --model " + w.model + " --data " + w.data,
          "does not go with --transfer");
  refused("--refresh 4 --compare --dtype f32 --model " + w.model + " --data " + w.data,
          "--compare has a row");
  CHECK(run_program("calibrate " + (w / "t.h5") + grid + " --min-recall 0.5 --refresh 4 --out " +
                    (w / "x.json"))
            .output.find("or to --max-kl") != std::string::npos);

  std::ofstream(w / "dev.jsonl") << [&] {
    std::ifstream in(w.data);
    std::string line, last;
    for (int i = 0; std::getline(in, line); ++i)
      if (i >= 3) last += line + "\n";
    return last;
  }();
  const auto compared = calibrate("--compare --methods dp,recall-dp,dp-refresh --candidates 2 --pack 200 --dtype f32 --model " +
                                      w.model + " --data " + (w / "dev.jsonl"),
                                  "compare.json");
  CAPTURE(compared.output);
  REQUIRE(compared.status == 0);
  std::vector<std::string> rows;
  const Json table = Json::parse(read_file(w / "compare.json"));
  CHECK((table["pack"] == 200 && table["context"].is_null() && table["max_tokens"].is_null()));
  for (const Json& row : table["methods"]) {
    rows.push_back(row["name"]);
    CHECK(row["attended_ratio"].get<double>() >= 1.5 - 1e-6);
    CHECK(row["nll_gap"]["mean"].is_number());
  }
  CHECK(rows == std::vector<std::string>{"dp", "recall-dp", "dp-refresh-4", "dp-refresh-8",
                                         "dp-refresh-cosine-0.3", "dp-refresh-cosine-0.1"});
  CHECK(table["methods"][2]["recall"].is_null());
  // What the runs attended to is what validate counts on the same samples.
  for (const auto& [refresh, index] : {std::pair{"1", 0}, {"8", 3}, {"cosine:0.3", 4}}) {
    const auto policies = w.validate("--pack 200 --config " + (w / (std::string(refresh) + ".json")),
                                     w / (std::string(refresh) + "dev.json"), w / "dev.jsonl");
    for (const Json& p : policies)
      if (p["name"] == "delta")
        CHECK(table["methods"][index]["attended_ratio_measured"].get<double>() ==
              Catch::Approx(p["attended_ratio"].get<double>()).epsilon(1e-5));
  }
}
