#include "sensitivity/head_cells.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>

#include "calib/head_weights.h"
#include "decode/kv_cache.h"
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

calib::HeadTask task_of(HeadCells cells, int l_pages, PageScore page) {
  return {cells.layer, cells.n_heads, l_pages, page, 1e-7, {std::move(cells)}};
}

}  // namespace

TEST_CASE("head cells: with all weights 1 the loss is the sum of the sensitivity pass's edges") {
  for (const char* architecture : {"llama", "qwen2"}) {
    const Setting s(architecture);
    const std::vector<PageBudget> budgets{{2, 1}, {4, 1}, {6, 1}};
    decode::KvCache cache(s.model, 1, int(s.ids.size()));
    sensitivity::Sensitivity pass(s.model, int(s.ids.size()), s.steps,
                                  {budgets, {}, 1e-7, {{PageScore::max, 1}}}, n_prompt);
    s.replay(decode::full_policy(4), cache, pass);
    pass.finish(s.ids, n_prompt, cache);

    const std::vector<sensitivity::ListUse> uses{{0, {{1, 4}, {2, 2}}}, {1, {{3, 6}}}};
    int positions = 0;
    const auto cells =
        sensitivity::head_cells(s.model, s.ids, n_prompt, s.steps, uses, [&](int n) { positions += n; });
    CHECK(positions == int(s.ids.size()));
    const std::vector<float> ones(size_t(s.model.info().n_heads), 1.0f);
    for (const int ranking : {0, 1}) {
      const auto kl = pass.edges().edge_kl(ranking);
      const auto edge = [&](int e, int target, int source) {
        return double(kl[size_t((e * 4 + target) * 4 + source)]);
      };
      const double expected[] = {edge(1, 1, 0) + edge(0, 2, 0), edge(2, 3, 1)};
      for (size_t i = 0; i < 2; ++i) {
        const auto task = task_of(cells[i], 1, ranking == 0 ? PageScore::sum : PageScore::max);
        const double found = calib::head_loss(task, 0, ones);
        CAPTURE(architecture, ranking, i, found, expected[i]);
        CHECK(expected[i] > 0);
        CHECK(std::abs(found - expected[i]) < 1e-3 * expected[i]);
      }
    }
    size_t bytes = 0;
    for (const HeadCells& of : cells) {
      bytes += sizeof(float) * of.alpha.size();
      for (const auto& served : of.served)
        bytes += sizeof(float) * (served.cells.size() + served.whole.size());
    }
    CHECK(bytes == sensitivity::head_cells_bytes(s.model.info().n_heads, s.steps, uses));
    CHECK(cells[1].steps ==
          std::vector<int32_t>{100, 130, 159, 200, 219});  // 64, 65 and before see no more than 6 pages
    CHECK(cells[1].n_steps == 8);
  }
}

TEST_CASE("head cells: under given weights the decoder reads the lists that the loss was taken over") {
  const Setting s("llama");
  for (const auto page : {config::Score::Page::sum, config::Score::Page::max})
    for (const std::vector<float>& weights : {std::vector<float>{1, 0.25f, 0, 0.5f}, {0.0625f, 1, 1, 0}}) {
      config::Schedule schedule;
      schedule.layers = {{Role::delta, 4, 1}, {Role::sparse, 4, 0}, {}, {}};
      schedule.score.page = page;
      schedule.score.head_weights = {weights, {}, {}, {}};
      config::check(schedule, "test");

      struct KeepLists : decode::Observer {
        std::vector<int32_t> steps, list;  // [S], [S, 4] of layer 1
        void layer(const decode::LayerView& view) override {
          if (view.layer != 1) return;
          for (int r = 0; r < view.n_rows; ++r)
            if (std::ranges::find(steps, view.position[size_t(r)]) != steps.end())
              list.insert(list.end(), view.list() + r * view.list_stride, view.list() + r * view.list_stride + 4);
        }
      } keep;
      keep.steps = s.steps;
      decode::KvCache cache(s.model, 1, int(s.ids.size()));
      s.replay(decode::delta_policy(schedule), cache, keep);
      REQUIRE(keep.list.size() == 4 * s.steps.size());

      const std::vector<sensitivity::ListUse> uses{{0, {{1, 4}}}};
      calib::HeadTask task =
          task_of(sensitivity::head_cells(s.model, s.ids, n_prompt, s.steps, uses)[0], 1, page);
      // From the decoder's lists alone.
      const HeadCells& cells = task.samples[0];
      const size_t H = 4;
      double expected = 0;
      const float* row = cells.served[0].cells.data();
      for (size_t a = 0; a < cells.steps.size(); ++a) {
        const size_t step = size_t(std::ranges::find(s.steps, cells.steps[a]) - s.steps.begin());
        double delta = 0;
        for (size_t h = 0; h < H; ++h) {
          double mass = 0, change = 0;
          for (size_t i = 0; i < 4; ++i) {
            const float* cell = row + size_t(keep.list[4 * step + i]) * 2 * H;
            mass += cell[h];
            change += cell[H + h];
          }
          delta += change / mass;
        }
        expected += 0.5 * delta * delta / double(s.steps.size());
        row += size_t(pages_seen(cells.steps[a])) * 2 * H;
      }
      const double found = calib::head_loss(task, 0, weights);
      CAPTURE(found, expected);
      CHECK(std::abs(found - expected) < 1e-6 * expected);
      CHECK(std::abs(found - calib::head_loss(task, 0, std::vector<float>(4, 1.0f))) > 1e-3 * expected);
    }
}
