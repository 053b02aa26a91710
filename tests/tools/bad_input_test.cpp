// Every mistake a person can make is answered with what, where and what to do, and leaves nothing behind.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "program.h"
#include "support/scratch.h"
#include "support/tiny_model.h"

using namespace deltacal;
using Json = nlohmann::json;
using test::run_program;
namespace fs = std::filesystem;

namespace {

struct Workplace {
  test::Scratch folder;
  std::string model = folder / "m.gguf", data = folder / "d.jsonl", trace = folder / "t.h5",
              config = folder / "c.json";

  Workplace() {
    test::write_tiny_model({}, model);
    std::string text;
    for (int i = 0; i < 60; ++i) text += "word" + std::to_string(i) + " ";
    write("d.jsonl", Json{{"text", text}}.dump() + "\n" + Json{{"text", "x " + text}}.dump() + "\n");
    REQUIRE(run_program("profile" + arguments() + " --out " + trace).status == 0);
    REQUIRE(
        run_program("calibrate " + trace + " --k-pages 2,4 --l-pages 1 --budget attended=1.2 --out " + config)
            .status == 0);
  }
  std::string operator/(const std::string& name) const { return folder / name; }
  std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(folder / name, std::ios::binary) << content;
    return folder / name;
  }
  std::string arguments() const { return " --model " + model + " --data " + data + " --dtype f32"; }
};

// The config with a schedule that --to delta can say.
std::string exportable(const Workplace& w) {
  Json config = Json::parse(read_file(w.config));
  const Json sparse{{"role", "sparse"}, {"k_pages", 8}};
  config["layers"] = {Json{{"role", "delta"}, {"k_pages", 8}, {"l_pages", 1}}, sparse, sparse, sparse};
  return config.dump();
}

// Status 2, the message holds `what`, and no output appears.
void refused(const Workplace& w, const std::string& arguments, const std::string& what, int status = 2) {
  const auto outcome = run_program(arguments + " --out " + (w / "new"));
  CAPTURE(arguments, outcome.output);
  CHECK(outcome.status == status);
  CHECK(outcome.output.find(what) != std::string::npos);
  for (const auto& entry : fs::directory_iterator(w.folder.path()))
    CHECK(entry.path().filename().string().find("new") == std::string::npos);
}

}  // namespace

TEST_CASE("bad input: the command line") {
  const Workplace w;
  refused(w, "profile" + w.arguments() + " --max-token 5",
          "unknown option --max-token (nearest: --max-tokens");
  refused(w, "profile --data " + w.data, "--model is required");
  CHECK(run_program("profil").output.find("nearest: profile") != std::string::npos);
  CHECK(run_program("").status == 2);
  refused(w, "profile" + w.arguments() + " --steps nine", "--steps nine");
  refused(w, "profile" + w.arguments() + " --steps 5000:6000", "leaves no step");
  refused(w, "profile" + w.arguments() + " --shard 3/2", "--shard 3/2");
  refused(w, "profile" + w.arguments() + " --device cuda", "--device c");  // no device, or no kernel for f32
  refused(w, "profile" + w.arguments() + " --device tpu", "use auto, cpu or cuda");
  const auto traced = run_program("generate --device cpu --model " + w.model +
                                  " --prompt x --max-new-tokens 2 --gpu-trace " + (w / "g.json"));
  CHECK(traced.status == 2);
  CHECK(traced.output.find("the model runs on the CPU") != std::string::npos);
  refused(w, "profile --device cpu" + w.arguments() + " --gpu-trace " + (w / "g.json"),
          "the model runs on the CPU");
  const std::string generate =
      "generate --device cpu --model " + w.model + " --prompt x --max-new-tokens 2 --counters";
  const auto counted = run_program(generate);
  CHECK(counted.status == 2);
  CHECK(counted.output.find("--counters: the model runs on the CPU") != std::string::npos);
  CHECK(run_program(generate + "=always").status == 2);
  const auto without = run_program(generate + "=auto");
  CHECK(without.status == 0);
  CHECK(without.output.find("without counters: the model runs on the CPU\n") != std::string::npos);
  CHECK(std::ranges::count(run_program("generate --model " + w.model + " --prompt x --batch -1").output,
                           '\n') == 1);
  // One name for two outputs, and an existing one: before the model, which is not there.
  const std::string same = w / "new";
  refused(w, "profile --model x.gguf --data " + w.data + " --gpu-trace " + same, "is named for two outputs");
  refused(w, "validate --model x.gguf --data " + w.data + " --config " + w.config + " --gpu-trace " + same,
          "is named for two outputs");
  refused(w,
          "generate --model x.gguf --prompt x --gpu-trace " + w.folder.path().string() + "/../" +
              w.folder.path().filename().string() + "/new",
          "is named for two outputs");
  refused(w, "generate --model x.gguf --prompt x --gpu-trace " + w.config, "--force to replace it");
  refused(w, "generate --device cpu --model " + w.model + " --prompt x --force --gpu-trace " + w.config,
          "the model runs on the CPU");
  refused(w, "profile" + w.arguments() + " --chat nosuch", "nosuch");
  refused(w, "profile" + w.arguments() + " --temperature 0.7", "needs --mode decode");
  refused(w, "profile" + w.arguments() + " --resume --force", "--force");
  refused(w, "profile" + w.arguments() + " --mode decode --max-new-tokens 2147483647",
          "lower --max-new-tokens");
  refused(w, "profile" + w.arguments() + " --threads 100000", "--threads 100000");
  refused(w, "calibrate " + w.trace + " --budget attended=1.1 --context 100000",
          "the model's context is 512");
  for (const char* unused : {" --draws 2", " --k-pages 4,8", " --l-pages 1", " --rankings max"})
    refused(w, "profile" + w.arguments() + unused,
            "--k-pages, --l-pages, --rankings and --draws say what --sensitivity records");
  const std::string plain = "calibrate " + w.trace + " --k-pages 2,4 --l-pages 1 --budget attended=1.1";
  for (const char* unused : {" --chat none", " --limit 1", " --max-tokens 50", " --min-tokens 5"})
    refused(w, plain + unused, "--chat, --limit, --max-tokens and --min-tokens say what is read of --data");
  for (const char* unused :
       {" --rerank-samples 4", " --evaluations runs.jsonl", " --rerank 0 --rerank-samples 4"})
    refused(w, plain + unused, "--rerank-samples and --evaluations are for runs on --data");
  for (const char* unused : {" --device cpu", " --dtype f32", " --threads 1"})
    refused(w, plain + unused, "--device, --dtype and --threads say how --model is run");
  // Before the model, which is not there either.
  refused(w,
          plain + " --rerank 4 --evaluations " + (w / "absent/runs.jsonl") + " --data " + w.data +
              " --model x.gguf",
          "absent does not exist: create it first");
  refused(w, "profile" + w.arguments() + " --sensitivity --rankings mean", "ranking \"mean\": give max");
  refused(w, "profile" + w.arguments() + " --sensitivity --rankings max,refresh:1", "\"refresh:1\": give max");
  refused(w, "profile" + w.arguments() + " --sensitivity --k-pages 2 --l-pages 4", "L <= K");
  refused(w, "calibrate " + w.trace + " --budget attended=1.1 --objective kl", "profile with --sensitivity");
  const std::string max = "calibrate " + w.trace + " --budget attended=1.1 --score-page max";
  refused(w, max, "profile with --sensitivity --rankings max");
  for (const char* method : {"recall-dp", "kascade", "tidal"})
    refused(w, max + " --method " + method, std::string("--method ") + method + ": recall is not known under --score-page max");
  refused(w, max + " --objective recall", "--objective recall: recall is not known under --score-page max");
  for (const char* table : {" --compare", " --transfer"})
    refused(w, max + table + w.arguments(), "--score-page is for a config");
  refused(w, "calibrate " + w.trace + " --min-recall 0.5 --score-page max",
          "--min-recall: recall is not known under --score-page max");
  refused(w, "calibrate " + w.trace + " --budget attended=1.1 --score-page mean", "--score-page");
  refused(w, "calibrate " + w.trace + " --budget attended=1.1 --aggregate median", "cvar:0.1");
  refused(w, "calibrate " + w.trace, "--budget");
  refused(w, "calibrate " + w.trace + " --budget attended=0.5", "at least 1");
  refused(w, "calibrate " + w.trace + " --budget bytes=0", "bytes");
  refused(w, "calibrate " + w.trace + " --k-pages 2,4 --l-pages 1 --budget bytes=5", "the nearest has an attended-token ratio of");
  refused(w, "calibrate " + w.trace + " --budget ms=5", "--cost TABLE");
  refused(w, "calibrate " + w.trace + " --budget attended=1.1 --cost x.json", "--budget ms=T alone");
  refused(w, "calibrate " + w.trace + " --max-kl 0.1", "profile with --sensitivity");
  refused(w, "calibrate " + w.trace + " --budget attended=1.1 --max-kl 0.1", "--max-kl");
  refused(w, "calibrate " + w.trace + " --budget attended=1.1 --rerank 4", "give --model M --data dev.jsonl");
  refused(w, "calibrate " + w.trace + " --budget attended=1.1 --compare", "give --model M --data dev.jsonl");
  refused(w, "calibrate " + w.trace + " --budget attended=1.1" + w.arguments(), "--compare, --transfer, --rerank");
  refused(w, "calibrate " + w.trace + " --budget attended=1.1 --compare --method uniform" + w.arguments(), "--methods");
  refused(w, "calibrate " + w.trace + " --k-pages 2,4 --l-pages 1 --budget attended=1.1 --rerank 4" + w.arguments(), "the same tokens");
  refused(w, "calibrate " + w.trace + " --budget attended=1.1 --compare --methods random,dp" + w.arguments(), "the first is what the others");
  refused(w, "calibrate " + w.trace + " --budget attended=1.1 --compare --methods dp,dp" + w.arguments(), "dp is there twice");
  refused(w, "calibrate " + w.trace + " --k-pages 2,4 --l-pages 1 --budget attended=50",
          "the nearest has an attended-token ratio of");
  refused(w, "calibrate " + w.trace + " --k-pages 2 --l-pages 4 --budget attended=1.2", "L <= K");  // K < L
  refused(w, "calibrate " + w.trace + " --min-recall 1.5", "--min-recall 1.5");
}

TEST_CASE("bad input: models") {
  const Workplace w;
  const std::string model = read_file(w.model);
  const auto with = [&](const std::string& path) {
    return "profile --dtype f32 --data " + w.data + " --model " + path;
  };
  refused(w, with(w / "absent.gguf"), "absent.gguf");
  refused(w, with(w.write("text.gguf", "this is no model")), "text.gguf");
  refused(w, with(w.write("cut.gguf", model.substr(0, model.size() / 2))), "cut.gguf");
  refused(w, with(w.write("head.gguf", model.substr(0, 100))), "head.gguf");
  refused(w, with(w.write("empty.gguf", "")), "empty.gguf");
  refused(w, with(w.folder.path().string()), "not a regular file");
}

TEST_CASE("bad input: data") {
  const Workplace w;
  const auto with = [&](const std::string& content, const std::string& more = "") {
    return "profile --dtype f32 --model " + w.model + " --data " + w.write("bad.jsonl", content) + more;
  };
  const std::string good = R"({"text": "abcdefgh"})"
                           "\n";
  refused(w, with(good + "{\"text\": \n"), "bad.jsonl line 2");
  refused(w, with(good + R"({"text": 5})"), "bad.jsonl line 2");
  refused(w, with(good + R"({"text": "a", "input_ids": [1]})"), "bad.jsonl line 2");
  refused(w, with(good + "{}"), "bad.jsonl line 2");
  refused(w, with(""), "bad.jsonl");
  refused(w, with(R"({"text": ""})"), "'text' is empty");
  refused(w, with(R"({"question": "a", "response": ""})"), "'response' is empty");
  refused(w, with(R"({"input_ids": [1, 2, 999]})"), "999");  // outside the vocabulary
  refused(w, with(R"({"text": ")" + std::string(3000, 'q') + "\"}"),
          "context");  // longer than the model's context
  refused(w, with(good, " --min-tokens 100"), "--min-tokens");
  refused(w, "profile --dtype f32 --model " + w.model + " --data " + (w / "absent.jsonl"), "absent.jsonl");
}

TEST_CASE("bad input: configs") {
  const Workplace w;
  const Json good = Json::parse(read_file(w.config));
  const auto with = [&](Json config) {
    return "validate" + w.arguments() + " --allow-overlap --config " + w.write("bad.json", config.dump());
  };
  const auto layers = [&](const std::vector<Json>& roles) {
    Json config = good;
    config["layers"] = roles;
    return config;
  };
  const Json full{{"role", "full"}}, delta{{"role", "delta"}, {"k_pages", 4}, {"l_pages", 2}},
      sparse{{"role", "sparse"}, {"k_pages", 4}};
  Json changed = good;
  changed["model"]["n_heads"] = 8;
  refused(w, with(changed), "n_heads");
  changed = good;
  changed["model"]["architecture"] = "qwen2";
  refused(w, with(changed), "architecture");
  changed = good;
  changed["refresh_interval"] = 0;
  refused(w, with(changed), "refresh_interval is 0");
  changed["refresh_interval"] = 4;
  changed["refresh"] = {{"signal", "query-cosine"}, {"threshold", 0.9}, {"max_interval", 8}};
  refused(w, with(changed), "not both");
  changed = good;
  changed["score"] = {{"page", "sum"}, {"carry", 0.5}};
  refused(w, with(changed), "score.carry is 0.5, not 0: this version ranks pages by the page score alone");
  changed["score"] = {{"head_weights", {nullptr, {1, 0.5, 1, 1}, nullptr, nullptr}}};
  refused(w, with(changed), "score.head_weights is not null");
  changed = good;
  changed["colour"] = "blue";
  refused(w, with(changed), "colour");
  refused(w, with(layers({full, sparse, delta, sparse})), "layer");  // sparse before any delta
  refused(w, with(layers({full, delta, Json{{"role", "sparse"}, {"k_pages", 1}}, sparse})),
          "below the l_pages 2 of layers[1]");
  refused(w, with(layers({full, Json{{"role", "delta"}, {"k_pages", 2}, {"l_pages", 3}}, sparse, sparse})),
          "below its l_pages 3");
  refused(w, with(layers({full, delta, Json{{"role", "sparse"}, {"k_pages", 9}}, sparse})),
          "the list of layers[1] has only 4");
  refused(w, with(layers({full, delta, sparse})), "layers has 3 entries");
  refused(w, "validate" + w.arguments() + " --config " + w.trace, "t.h5");
  refused(w, "validate" + w.arguments() + " --config " + w.config, "--allow-overlap");
}

TEST_CASE("bad input: exports") {
  const Workplace w;
  const Json good = Json::parse(read_file(w.config));
  refused(w, "export " + w.config, "--to");
  refused(w, "export " + w.config + " --to tgi", "tgi");
  refused(w, "export " + w.config + " --to sglang", "no form of sglang that deltacal knows");
  refused(w, "export " + w.config + " --to delta,vllm",
          "no form of vllm");  // and nothing of delta is written
  refused(w, "export " + w.config + " --to delta --context 4096", "--context belongs to --to kascade");
  refused(w, "export " + w.config + " --to delta,delta", "delta is there twice");
  refused(w, "export " + w.trace + " --to delta", "t.h5");
  Json mixed = good;
  mixed["layers"] = {Json{{"role", "delta"}, {"k_pages", 4}, {"l_pages", 1}},
                     Json{{"role", "sparse"}, {"k_pages", 4}}, Json{{"role", "sparse"}, {"k_pages", 2}},
                     Json{{"role", "full"}}};
  refused(w, "export " + w.write("mixed.json", mixed.dump()) + " --to delta",
          "calibrate with --k-per schedule");
}

TEST_CASE("bad input: traces") {
  const Workplace w;
  const std::string trace = read_file(w.trace);
  refused(w, "analyze " + (w / "absent.h5"), "absent.h5");
  refused(w, "analyze " + w.config, "c.json");
  refused(w, "analyze " + w.write("cut.h5", trace.substr(0, trace.size() / 2)), "cut.h5");
  refused(w, "merge " + w.trace + " " + w.trace, "t.h5");  // a sample twice
  const std::string other = w / "other.gguf";
  test::write_tiny_model({.n_layers = 5}, other);
  REQUIRE(run_program("profile --dtype f32 --limit 1 --model " + other + " --data " + w.data + " --out " +
                      (w / "o.h5"))
              .status == 0);
  refused(w, "merge " + w.trace + " " + (w / "o.h5"), "o.h5");
  refused(w, "report " + w.trace, "t.h5");
  CHECK(run_program("inspect " + w.write("odd.json", R"({"format": "deltacal-validation", "policies": [1]})"))
            .status == 2);
}

TEST_CASE("export: one form is a file, several are a folder of files that a shell takes") {
  const Workplace w;
  const std::string config = w.write("e.json", exportable(w));
  REQUIRE(run_program("export " + config + " --to delta --out " + (w / "one.sh")).status == 0);
  const auto both =
      run_program("export " + config + " --to delta,kascade --context 1024 --out " + (w / "forms"));
  CHECK(both.status == 0);
  CHECK(both.output.find("differs, ") != std::string::npos);
  CHECK(read_file(w / "one.sh") == read_file(w / "forms/delta.sh"));
  CHECK(fs::exists(w / "forms/kascade.sh"));
  CHECK(run_program("", "bash -c '. " + (w / "one.sh") + "; echo \"${delta_options[*]}\"';")
            .output.find("--full_cache_layers 0 --subset_cache_size 8 --compression_ratio 1 --L 1") !=
        std::string::npos);
  CHECK(run_program("export " + config + " --to delta --out " + (w / "forms")).output.find("--force") !=
        std::string::npos);
}

TEST_CASE("bad input: an output that exists stays as it is") {
  const Workplace w;
  w.write("kept", "kept");
  for (const std::string& command : std::vector<std::string>{
           "profile" + w.arguments(), "analyze " + w.trace, "calibrate " + w.trace + " --budget attended=1.1",
           "merge " + w.trace, "validate" + w.arguments() + " --allow-overlap --config " + w.config,
           "report " + w.config, "export " + w.write("e.json", exportable(w)) + " --to delta"}) {
    const auto outcome = run_program(command + " --out " + (w / "kept"));
    CAPTURE(command, outcome.output);
    CHECK(outcome.status == 2);
    CHECK(outcome.output.find("--force") != std::string::npos);
    CHECK(read_file(w / "kept") == "kept");
  }
  REQUIRE(run_program("", "mkfifo " + (w / "pipe") + ";").status == 2);
  CHECK(run_program("report " + w.config + " --force --out " + (w / "pipe")).output.find("no regular file") !=
        std::string::npos);
  CHECK(run_program("calibrate " + w.trace +
                    " --k-pages 2,4 --l-pages 1 --budget attended=1.1 --force --out " + (w / "kept"))
            .status == 0);
}

TEST_CASE("bad input: an output that --alternatives-dir would write over") {
  const Workplace w;
  const auto calibrate = [&](const std::string& out) {
    return run_program("calibrate " + w.trace +
                       " --k-pages 2,4 --l-pages 1 --budget attended=1.1 --alternatives-dir " +
                       w.folder.path().string() + " --out " + (w / out));
  };
  for (const char* out : {"dp.json", "./uniform.json"}) {
    const auto outcome = calibrate(out);
    CAPTURE(out, outcome.output);
    CHECK(outcome.status == 2);
    CHECK(outcome.output.find("has a schedule of its own of this name: give another --out") !=
          std::string::npos);
    CHECK(!fs::exists(w / "dp.json"));
  }
  CHECK(calibrate("chosen.json").status == 0);
  CHECK(fs::exists(w / "dp.json"));
}

TEST_CASE("failure: a full disk leaves nothing under the final name and says so") {
  const Workplace w;
  // A file-size limit of 4 kB stands in for the disk; the signal is ignored, so that the write fails.
  const std::string limit = "trap '' XFSZ; ulimit -f 4;";
  for (const std::string& command : {"profile" + w.arguments(), "analyze " + w.trace}) {
    const auto outcome = run_program(command + " --out " + (w / "new"), limit);
    CAPTURE(command, outcome.output);
    CHECK(outcome.status == 1);
    CHECK(outcome.output.find("new") != std::string::npos);
    CHECK(!fs::exists(w / "new"));
  }
}
