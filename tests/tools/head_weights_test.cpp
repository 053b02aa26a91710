// `calibrate --fit-head-weights` on a tiny random model, as a person would run it.
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

using namespace deltacal;
using Json = nlohmann::json;
using test::run_program;
namespace fs = std::filesystem;

namespace {

const std::string grid = " --k-pages 2,4,8 --l-pages 1,2";

// Six problems, with a text each, or all with the same.
struct Workplace {
  test::Scratch folder;
  std::string model = folder / "m.gguf", data = folder / "traces.jsonl", trace = folder / "t.h5";
  explicit Workplace(bool one_text = false) {
    test::write_tiny_model({.n_layers = 6}, model);
    std::ofstream out(data);
    for (int problem = 0; problem < 6; ++problem) {
      std::string response;
      for (int i = 0; i < 40; ++i)
        response += "step " + std::to_string(i * (one_text ? 7 : 7 + problem) % 97) + " ";
      out << Json{{"task", "toy"},
                  {"problem", problem},
                  {"question", "What is " + std::to_string(problem) + "?"},
                  {"response", response}}
                 .dump()
          << "\n";
    }
    out.close();
    REQUIRE(run_program("profile --model " + model + " --data " + data +
                        " --dtype f32 --sensitivity --rankings max --steps 64" + grid + " --out " + trace)
                .status == 0);
  }
  std::string operator/(const std::string& name) const { return folder / name; }
  std::string calibrate() const {
    return "calibrate " + trace + grid + " --budget attended=1.4 --resamples 200 --order additive";
  }
};

Json json_of(const std::string& path) {
  return Json::parse(read_file(path));
}

}  // namespace

TEST_CASE(
    "calibrate: head weights are fitted to the prediction that the schedule was chosen by, and kept where "
    "they hold") {
  for (const bool one_text : {false, true}) {
    const Workplace w(one_text);
    const std::string fit = w.calibrate() + " --model " + w.model + " --dtype f32 --fit-head-weights";
    const auto outcome = run_program(fit + " --out " + (w / "c.json"));
    CAPTURE(one_text, outcome.output);
    REQUIRE(outcome.status == 0);
    const Json config = json_of(w / "c.json"), made = config["provenance"]["head_weights"],
               rows = config["score"]["head_weights"];
    CHECK(made["n_steps"] == 128);
    double before = 0;
    std::set<int> weighted, served_by_weights;
    for (const Json& layer : made["layers"]) {
      const int number = layer["layer"].get<int>();
      before += layer["predicted_kl"]["all_one"].get<double>();
      CHECK(layer["predicted_kl"]["fitted"].get<double>() <= layer["predicted_kl"]["all_one"].get<double>());
      CHECK(layer["kept"].get<bool>() == (layer["held_out_gain"]["low"].get<double>() > 0));
      CHECK(layer["fold_weights"].size() == 6);  // one for each problem
      CHECK(config["layers"][number]["role"] == "delta");
      for (const Json& served : layer["served"]) {
        CHECK(config["layers"][served.get<int>()]["role"] == "sparse");
        if (layer["kept"]) served_by_weights.insert(served.get<int>());
      }
      if (layer["kept"]) {
        weighted.insert(number);
        CHECK(rows[number] == layer["weights"]);
      }
      CHECK(outcome.output.find("head weights of Δ-layer " + std::to_string(number)) != std::string::npos);
    }
    // What is fitted to a text holds on the same text.
    if (one_text) CHECK(!weighted.empty());
    for (int layer = 0; layer < 6; ++layer)
      if (!weighted.contains(layer)) CHECK((rows.is_null() || rows[layer].is_null()));
    // All of the trace's steps are used, so this is the sum over the schedule's edges in the trace.
    CHECK(before > 0);
    CHECK(before == Catch::Approx(config["provenance"]["loss"].get<double>()).epsilon(1e-3));
    // Recall was measured on other lists.
    for (const Json& expected : config["expected"]["recall"])
      CHECK(!served_by_weights.contains(expected["layer"].get<int>()));
    CHECK(run_program("generate --model " + w.model + " --dtype f32 --config " + (w / "c.json") +
                      " --prompt hello --max-new-tokens 4")
              .status == 0);
    if (one_text) continue;
    // By the largest of a page, too.
    REQUIRE(run_program(fit + " --score-page max --out " + (w / "max.json")).status == 0);
    const Json max = json_of(w / "max.json")["provenance"];
    before = 0;
    for (const Json& layer : max["head_weights"]["layers"])
      before += layer["predicted_kl"]["all_one"].get<double>();
    CHECK(before == Catch::Approx(max["loss"].get<double>()).epsilon(1e-3));
    // The same again, bit for bit; on fewer steps it is another sum.
    REQUIRE(run_program(fit + " --out " + (w / "again.json")).status == 0);
    CHECK(json_of(w / "again.json")["provenance"]["head_weights"] == made);
    REQUIRE(run_program(fit + " --head-weight-steps 16 --out " + (w / "fewer.json")).status == 0);
    CHECK(json_of(w / "fewer.json")["provenance"]["head_weights"]["layers"] != made["layers"]);
  }
}

TEST_CASE("bad input: head weights") {
  const Workplace w;
  const auto refused = [&](const std::string& arguments, const std::string& what) {
    const auto outcome = run_program(arguments + " --out " + (w / "new.json"));
    CAPTURE(arguments, outcome.output);
    CHECK(outcome.status == 2);
    CHECK(outcome.output.find(what) != std::string::npos);
    CHECK(!fs::exists(w / "new.json"));
  };
  const std::string fit = w.calibrate() + " --fit-head-weights --dtype f32 --model ";
  refused(w.calibrate() + " --fit-head-weights", "give --model M");
  refused(fit + w.model + " --data " + w.data, "--model alone for --fit-head-weights");
  refused(w.calibrate() + " --head-weight-steps 16", "--fit-head-weights");
  refused(fit + w.model + " --head-weight-steps 0", "--head-weight-steps");
  refused(fit + w.model + " --compare", "--compare");
  refused(fit + w.model + " --carry 0.5", "fits each Δ-layer by itself");
  refused(fit + w.model + " --refresh 4", "goes neither");
  refused(fit + (w / "absent.gguf"), "absent.gguf");
  test::write_tiny_model({.n_layers = 6, .seed = 2}, w / "other.gguf");
  refused(fit + (w / "other.gguf"), "its weights differ");
  test::write_tiny_model({.n_layers = 5}, w / "smaller.gguf");
  refused(fit + (w / "smaller.gguf"), "n_layers");
  refused("calibrate " + w.trace + grid +
              " --budget attended=1 --full-layers 5 --fit-head-weights --dtype f32 --model " + w.model,
          "no sparse layer");
  // Refused by name on a CPU that has no bf16.
  const auto bf16 =
      run_program("profile --model " + w.model + " --data " + w.data +
                  " --dtype bf16 --sensitivity --steps 64" + grid + " --out " + (w / "bf16.h5"));
  if (bf16.status != 0) CHECK(bf16.output.find("--dtype bf16") != std::string::npos);
  if (bf16.status == 0)
    refused("calibrate " + (w / "bf16.h5") + grid +
                " --budget attended=1.4 --fit-head-weights --dtype f32 --model " + w.model,
            "give --dtype bf16");
}
