// The sensitivity pass on a CUDA device against the same on the CPU, both in bf16.
#include "sensitivity/sensitivity.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>

#include "decode/kv_cache.h"
#include "support/device.h"
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
  for (int t = 100; t < n; t += std::max(9, n / 40)) steps.push_back(t);
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

// |b| / |a|, of the numbers that are some: a cosine is blind to a factor.
double length_ratio(const std::vector<float>& a, const std::vector<float>& b) {
  double aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i])) continue;
    aa += double(a[i]) * a[i], bb += double(b[i]) * b[i];
  }
  return std::sqrt(bb / aa);
}

std::vector<int32_t> random_ids(int n) {
  std::mt19937 random(12);
  std::vector<int32_t> ids(static_cast<size_t>(n));
  for (auto& id : ids) id = int32_t(random() % 288);
  return ids;
}

TEST_CASE("sensitivity, CUDA: changes of the loss and predicted KL are the CPU's, on labels and on draws") {
  NEEDS_DEVICE;
  for (const char* architecture : {"llama", "qwen2"}) {
    test::TinyModel tiny;
    tiny.architecture = architecture;
    tiny.head_dim = 64;
    tiny.logit_deviation = 1.5;
    const test::Scratch scratch;
    test::write_tiny_model(tiny, scratch / "m.gguf");
    const std::vector<int32_t> ids = random_ids(300);
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
      CHECK(std::abs(length_ratio(cpu.delta, cuda.delta) - 1) < 0.05);
      CHECK(std::abs(length_ratio(cpu.kl, cuda.kl) - 1) < 0.1);
    }
  }
}

// Gradients of every layer's attention output at some steps, [N] of [S, H d], on the sequence's own tokens.
// besides: as Activations.
std::vector<std::vector<float>> gradients_on(model::Device device, const std::string& path,
                                             std::span<const int32_t> ids, size_t besides) {
  const model::Model model = model::Model::load(path, model::Dtype::bf16, device);
  const int n = static_cast<int>(ids.size());
  decode::KvCache cache(model, 1, n);
  Activations activations(model, n, besides);
  struct Keep : decode::Observer {
    Activations& to;
    explicit Keep(Activations& a) : to(a) {}
    void layer(const decode::LayerView& view) override { to.take(view); }
    void feed_forward(const decode::LayerView& view) override { to.take_gate(view); }
  } keep(activations);
  decode::Decoder decoder(model, cache, decode::full_policy(model.info().n_layers), {&keep});
  decode::replay(decoder, ids, 40, [](int, int) {});
  std::vector<int32_t> steps;
  for (int t = 60; t < n; t += 37) steps.push_back(t);
  std::vector<std::vector<float>> found(size_t(model.info().n_layers));
  output_gradients(model, activations, cache, ids, 40, steps, {}, [&](int layer, std::span<const float> g) {
    found[size_t(layer)].assign(g.begin(), g.end());
  });
  return found;
}

TEST_CASE(
    "sensitivity, CUDA: gradients are autograd's, also those of activations that are computed again, of long "
    "sequences and of such as are no whole thousand, at any group and head dimension") {
  NEEDS_DEVICE;
  struct Shape {
    const char* architecture;
    int n_heads, n_kv_heads, head_dim, n_vocab;
    bool tied;
    std::vector<int> lengths;
  };
  const Shape shapes[] = {{"llama", 4, 2, 64, 288, true, {300, 4096, 4200}},
                          {"qwen2", 4, 2, 64, 289, false, {300, 4096, 4200}},
                          {"qwen2", 7, 1, 128, 288, true, {300, 4200}},
                          {"llama", 6, 2, 96, 290, false, {300, 4200}},
                          {"llama", 2, 1, 256, 288, true, {300, 4200}}};
  for (const auto& [architecture, n_heads, n_kv_heads, head_dim, n_vocab, tied, lengths] : shapes) {
    test::TinyModel tiny;
    tiny.architecture = architecture;
    tiny.n_heads = n_heads, tiny.n_kv_heads = n_kv_heads, tiny.head_dim = head_dim;
    tiny.n_vocab = n_vocab, tiny.tied_output = tied;
    tiny.logit_deviation = 1.5;
    tiny.max_context = 8192;
    const test::Scratch scratch;
    test::write_tiny_model(tiny, scratch / "m.gguf");
    for (const int n : lengths) {
      const std::vector<int32_t> ids = random_ids(n);
      constexpr size_t nothing_fits = size_t{1} << 62;
      const auto cpu = gradients_on(model::Device::cpu, scratch / "m.gguf", ids, 0),
                 kept = gradients_on(model::Device::cuda, scratch / "m.gguf", ids, 0),
                 again = gradients_on(model::Device::cuda, scratch / "m.gguf", ids, nothing_fits);
      for (size_t layer = 0; layer < cpu.size(); ++layer) {
        CAPTURE(architecture, head_dim, n_heads, n_vocab, n, layer);
        CHECK(cosine(kept[layer], again[layer]) > 0.9995);
        CHECK(cosine(cpu[layer], kept[layer]) > 0.995);
        CHECK(std::abs(length_ratio(cpu[layer], kept[layer]) - 1) < 0.05);
      }
    }
  }
}

}  // namespace
}  // namespace deltacal::sensitivity
