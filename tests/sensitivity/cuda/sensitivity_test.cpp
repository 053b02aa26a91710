// The sensitivity pass on a CUDA device against the same on the CPU, both in bf16.
#include "sensitivity/sensitivity.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>

#include "decode/kv_cache.h"
#include "support/scratch.h"
#include "support/tiny_model.h"

namespace deltacal::sensitivity {
namespace {

struct Found {
  std::vector<float> delta, kl, kl_of_refresh;
};

Found run_on(model::Device device, const std::string& path, std::span<const int32_t> ids,
             const Options& options, int chunk) {
  const model::Model model = model::Model::load(path, model::Dtype::bf16, device);
  const int n_prompt = 40, n = static_cast<int>(ids.size());
  std::vector<int32_t> steps;
  for (int t = 100; t < n; t += 9) steps.push_back(t);
  decode::KvCache cache(model, 1, n);
  Sensitivity pass(model, n, steps, options, n_prompt);
  decode::Decoder decoder(model, cache, decode::full_policy(model.info().n_layers), {&pass});
  decode::replay(
      decoder, ids, n_prompt, [](int, int) {}, chunk);
  pass.finish(ids, n_prompt, cache);
  const auto delta = pass.edges().delta();
  return {{delta.begin(), delta.end()}, pass.edges().edge_kl(), pass.edges().edge_kl(1)};
}

// sum a b / sqrt(sum a^2 sum b^2), of the numbers that are some in both.
double cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double ab = 0, aa = 0, bb = 0;
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    REQUIRE(std::isnan(a[i]) == std::isnan(b[i]));
    if (std::isnan(a[i])) continue;
    ab += double(a[i]) * b[i], aa += double(a[i]) * a[i], bb += double(b[i]) * b[i];
  }
  REQUIRE(aa > 0);
  return ab / std::sqrt(aa * bb);
}

TEST_CASE("sensitivity, CUDA: changes of the loss and predicted KL are the CPU's, on labels and on draws") {
  if (model::choose_device("auto") != model::Device::cuda) SKIP("no CUDA device");
  for (const char* architecture : {"llama", "qwen2"}) {
    test::TinyModel tiny;
    tiny.architecture = architecture;
    tiny.head_dim = 64;
    tiny.logit_deviation = 1.5;
    const test::Scratch scratch;
    test::write_tiny_model(tiny, scratch / "m.gguf");
    std::mt19937 random(12);
    std::vector<int32_t> ids(300);
    for (auto& id : ids) id = int32_t(random() % 288);
    for (const int draws : {0, 2}) {
      Options options{{{2, 1}, {4, 1}, {6, 2}}, {draws, 7}, 1e-7, {}};
      options.rankings.resize(1);
      options.rankings[0].refresh_interval = 4;
      const Found cpu = run_on(model::Device::cpu, scratch / "m.gguf", ids, options, 512),
                  cuda = run_on(model::Device::cuda, scratch / "m.gguf", ids, options, 512),
                  chunks = run_on(model::Device::cuda, scratch / "m.gguf", ids, options, 50);
      CAPTURE(architecture, draws);
      // A draw falls differently where a rounding moves a cumulative probability past the number drawn:
      // another loss for that position, hence other changes at single steps and less of their means.
      CHECK(cosine(cuda.kl, chunks.kl) > (draws > 0 ? 0.95 : 0.99));
      CHECK(cosine(cpu.kl, cuda.kl) > (draws > 0 ? 0.95 : 0.98));
      CHECK(cosine(cpu.kl_of_refresh, cuda.kl_of_refresh) > (draws > 0 ? 0.95 : 0.98));
      if (draws > 0) continue;
      CHECK(cosine(cuda.delta, chunks.delta) > 0.98);
      CHECK(cosine(cpu.delta, cuda.delta) > 0.97);
    }
  }
}

}  // namespace
}  // namespace deltacal::sensitivity
