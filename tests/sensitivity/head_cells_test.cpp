#include "sensitivity/head_cells.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>

#include "calib/head_weights.h"
#include "decode/kv_cache.h"
#include "decode/scored_rows.h"
#include "sensitivity/sensitivity.h"
#include "support/scratch.h"
#include "support/tiny_model.h"

using namespace deltacal;
using config::Role;

namespace {

constexpr int n_prompt = 30;

struct Setting {
  test::Scratch scratch;
  std::string path = scratch / "m.gguf";
  model::Model model;
  std::vector<int32_t> ids;
  std::vector<int32_t> steps{31, 64, 65, 100, 130, 159, 200, 219};

  explicit Setting(const char* architecture)
      : model([&] {
          test::TinyModel tiny;
          tiny.architecture = architecture;
          test::write_tiny_model(tiny, path);
          return model::Model::load(path, model::Dtype::f32);
        }()) {
    std::mt19937 random(12);
    for (int i = 0; i < 220; ++i) ids.push_back(int32_t(random() % 288));
  }

  void replay(const decode::Policy& policy, decode::KvCache& cache, decode::Observer& observer) const {
    decode::Decoder decoder(model, cache, policy, {&observer});
    decode::replay(decoder, ids, n_prompt, [](int, int) {});
  }
};

calib::HeadTask task_of(HeadCells cells, int l_pages) {
  return {cells.layer, cells.n_heads, l_pages, config::Score::Page::sum, 1e-7, {std::move(cells)}};
}

}  // namespace

TEST_CASE("head cells: with all weights 1 the loss is the sum of the sensitivity pass's edges") {
  for (const char* architecture : {"llama", "qwen2"}) {
    const Setting s(architecture);
    const std::vector<PageBudget> budgets{{2, 1}, {4, 1}, {6, 1}};
    decode::KvCache cache(s.model, 1, int(s.ids.size()));
    sensitivity::Sensitivity pass(s.model, int(s.ids.size()), s.steps, {budgets, {}, 1e-7});
    s.replay(decode::full_policy(4), cache, pass);
    pass.finish(s.ids, n_prompt, cache);
    const auto kl = pass.edges().edge_kl();
    const auto edge = [&](int e, int target, int source) {
      return double(kl[size_t((e * 4 + target) * 4 + source)]);
    };

    const std::vector<sensitivity::ListUse> uses{{0, {{1, 4}, {2, 2}}}, {1, {{3, 6}}}};
    int positions = 0;
    const auto cells =
        sensitivity::head_cells(s.model, s.ids, n_prompt, s.steps, uses, [&](int n) { positions += n; });
    CHECK(positions == int(s.ids.size()));
    const double expected[] = {edge(1, 1, 0) + edge(0, 2, 0), edge(2, 3, 1)};
    size_t bytes = 0;
    for (size_t i = 0; i < 2; ++i) {
      const double found =
          calib::head_loss(task_of(cells[i], 1), 0, std::vector<float>(size_t(s.model.info().n_heads), 1.0f));
      CAPTURE(architecture, i, found, expected[i]);
      CHECK(expected[i] > 0);
      CHECK(std::abs(found - expected[i]) < 1e-3 * expected[i]);
      bytes += sizeof(float) * cells[i].alpha.size();
      for (const auto& served : cells[i].served)
        bytes += sizeof(float) * (served.cells.size() + served.whole.size());
    }
    CHECK(bytes == sensitivity::head_cells_bytes(s.model.info().n_heads, s.steps, uses));
    CHECK(cells[1].steps ==
          std::vector<int32_t>{100, 130, 159, 200, 219});  // 64, 65 and before see no more than 6 pages
    CHECK(cells[1].n_steps == 8);
  }
}
