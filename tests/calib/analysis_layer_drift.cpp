// The drift that cosine peaks are taken from is the one that the analysis reports.
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "calib/drift.h"
#include "support/scratch.h"

using namespace deltacal;

TEST_CASE("analysis: mean layer drift of a trace is the mean over samples of the means over steps") {
  const test::Scratch folder;
  const int n_layers = 3;
  std::mt19937 random(5);
  std::uniform_real_distribution<float> uniform(0.1f, 1);
  ModelInfo model{"m", "llama", std::string(64, 'a'), n_layers, 4, 2, 32, 16, 512, "f32"};
  std::vector<double> expected(n_layers, 0);
  {
    trace::Writer writer(folder / "t.h5", trace::Writer::Start::fresh, model, {"test", 0},
                         nlohmann::json::object());
    for (int sample = 0; sample < 2; ++sample) {
      const int n_steps = sample == 0 ? 2 : 5;  // of unequal weight if steps were pooled
      std::vector<int32_t> ids(64, sample), steps, burst(n_steps, 0);
      for (int i = 0; i < n_steps; ++i) steps.push_back(59 + i);
      auto out = writer.begin(
          sample, {{std::to_string(sample), "", std::to_string(sample), "", "replay", 0, 0}, 64, n_steps});
      std::vector<std::vector<float>> score(n_layers);
      for (int layer = 0; layer < n_layers; ++layer) {
        std::vector<float> mass(n_steps * 4, 0.25f);
        for (int i = 0; i < n_steps * 4; ++i) score[layer].push_back(uniform(random));
        out.write_pages(layer, 0, n_steps, 4, score[layer], mass);
      }
      out.finish(ids, steps, burst, std::vector<float>(63, 1.0f));
      for (int layer = 1; layer < n_layers; ++layer)
        for (int s = 0; s < n_steps; ++s) {
          double dot = 0, a = 0, b = 0;
          for (int u = 0; u < 4; ++u) {
            const double x = score[layer][s * 4 + u], y = score[layer - 1][s * 4 + u];
            dot += x * y;
            a += x * x;
            b += y * y;
          }
          expected[layer] += (1 - dot / std::sqrt(a * b)) / n_steps / 2;
        }
    }
    writer.finish();
  }
  const auto drift = calib::mean_layer_drift(trace::Reader(folder / "t.h5"));
  CHECK(std::isnan(drift[0]));
  for (int layer = 1; layer < n_layers; ++layer) CHECK(drift[layer] == Catch::Approx(expected[layer]));
}
