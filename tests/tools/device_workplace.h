// A model and data for whole commands on a CUDA device.
#pragma once
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <fstream>
#include <nlohmann/json.hpp>

#include "support/scratch.h"
#include "support/tiny_model.h"
#include "tools/program.h"

namespace deltacal::test {

// Eight problems of about 900 tokens in a folder with a model whose head dimension has kernels.
struct DeviceWorkplace {
  static constexpr int n_layers = 6;
  Scratch folder;
  std::string model = folder / "m.gguf";
  DeviceWorkplace() {
    TinyModel tiny{.n_layers = n_layers, .head_dim = 64, .max_context = 1024};
    tiny.logit_deviation = 1.5;
    write_tiny_model(tiny, model);
    for (int problem = 0; problem < 8; ++problem) {
      std::string text;
      for (int i = 0; text.size() < 900; ++i)
        text += "step " + std::to_string((i * (7 + problem)) % 97) + " ";
      std::ofstream(folder / (problem < 4 ? "seen.jsonl" : "held_out.jsonl"), std::ios::app)
          << nlohmann::json{{"task", "toy"}, {"problem", problem}, {"text", text}}.dump() << "\n";
    }
  }
  std::string operator/(const std::string& name) const { return folder / name; }

  // Skips, saying why, where a model cannot run on a CUDA device.
  void need_device() const {
    const auto outcome = run_program("profile --device cuda --dry-run --model " + model + " --data " +
                                     (folder / "seen.jsonl") + " --out " + (folder / "never.h5"));
    if (outcome.status == 0) return;
    // One line, and the status of wrong usage.
    CAPTURE(outcome.output);
    REQUIRE(outcome.status == 2);
    REQUIRE(std::ranges::count(outcome.output, '\n') == 1);
    SKIP(outcome.output);
  }
};

inline void must_run(const std::string& arguments) {
  const auto outcome = run_program(arguments);
  CAPTURE(arguments, outcome.output);
  REQUIRE(outcome.status == 0);
}

}  // namespace deltacal::test
