#include "sensitivity/sensitivity.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>
#include <set>

#include "core/refresh.h"
#include "decode/kv_cache.h"
#include "support/reference_model.h"
#include "support/scratch.h"
#include "support/tiny_model.h"

using namespace deltacal;
using config::Role;

namespace {

std::vector<int32_t> random_ids(int n) {
  std::mt19937 random(12);
  std::vector<int32_t> ids(n);
  for (auto& id : ids) id = int32_t(random() % 288);
  return ids;
}

struct Setting {
  test::Scratch scratch;
  std::string path = scratch / "m.gguf";
  model::Model model;
  std::vector<int32_t> ids;
  int n_prompt = 30;
  std::vector<int32_t> steps{40, 64, 65, 100, 130, 149};

  explicit Setting(const char* architecture, int n_tokens = 150)
      : model([&] {
          test::TinyModel tiny;
          tiny.architecture = architecture;
          test::write_tiny_model(tiny, path);
          return model::Model::load(path, model::Dtype::f32);
        }()),
        ids(random_ids(n_tokens)) {}

  int row_size() const { return model.info().n_heads * model.info().head_dim; }

  struct Found {
    std::vector<std::vector<float>> gradient;  // [N] of [n_gradients, S, H d]
    std::vector<float> delta, kl;             // of the ranking {sum, 1}
    std::vector<std::vector<float>> other_delta, other_kl;  // of the options' rankings
    std::vector<std::vector<int32_t>> made_at;              // [1 + rankings] of [N, steps]
  };
  Found run(const sensitivity::Options& options, int chunk = 64) const {
    decode::KvCache cache(model, 1, int(ids.size()));
    sensitivity::Sensitivity pass(model, int(ids.size()), steps, options, n_prompt);
    sensitivity::Activations activations(model, int(ids.size()), 0);
    struct Keep : decode::Observer {
      sensitivity::Activations& to;
      explicit Keep(sensitivity::Activations& a) : to(a) {}
      void layer(const decode::LayerView& view) override { to.take(view); }
    } keep(activations);
    decode::Decoder decoder(model, cache, decode::full_policy(model.info().n_layers), {&pass, &keep});
    decode::replay(
        decoder, ids, n_prompt, [](int, int) {}, chunk);
    pass.finish(ids, n_prompt, cache);
    const auto delta = [&](int ranking) {
      const auto of_ranking = pass.edges().delta(ranking);
      return std::vector<float>(of_ranking.begin(), of_ranking.end());
    };
    Found found{std::vector<std::vector<float>>(model.info().n_layers),
                delta(0),
                pass.edges().edge_kl(),
                {},
                {},
                {pass.list_made_at(0)}};
    for (int i = 1; i <= int(options.rankings.size()); ++i) {
      found.other_delta.push_back(delta(i));
      found.other_kl.push_back(pass.edges().edge_kl(i));
      found.made_at.push_back(pass.list_made_at(i));
    }
    sensitivity::output_gradients(
        model, activations, cache, ids, n_prompt, steps, options.loss,
        [&](int layer, std::span<const float> g) { found.gradient[layer].assign(g.begin(), g.end()); });
    return found;
  }

  double loss(const test::ReferenceRun& run) const {
    double sum = 0;
    for (size_t t = n_prompt; t + 1 < ids.size(); ++t) sum += run.nll[t];
    return sum;
  }
};

}  // namespace

TEST_CASE("sensitivity: gradients of the attention outputs equal finite differences of the loss in double") {
  for (const char* architecture : {"llama", "qwen2"}) {
    const Setting s(architecture);
    const auto found = s.run({{{4, 1}}, {}, 1e-7});
    std::mt19937 random(3);
    std::normal_distribution<double> normal;
    for (const auto& [layer, step] : {std::pair(0, 1), {1, 0}, {1, 4}, {2, 3}, {3, 0}, {3, 5}}) {
      Eigen::RowVectorXd direction(s.row_size());
      for (double& x : direction) x = normal(random);
      constexpr double h = 1e-4;
      double ends[2];
      for (int side = 0; side < 2; ++side) {
        const auto change = [&](int l, test::Matrix& output) {
          if (l == layer) output.row(s.steps[step]) += (side ? h : -h) * direction;
        };
        ends[side] = s.loss(test::reference_run(s.path, s.ids, {s.n_prompt, {}, false, change}));
      }
      const double expected = (ends[1] - ends[0]) / (2 * h);
      double product = 0, magnitude = 0;
      for (int i = 0; i < s.row_size(); ++i) {
        const double term = found.gradient[layer][size_t(step) * s.row_size() + i] * direction[i];
        product += term;
        magnitude += term * term;
      }
      CAPTURE(architecture, layer, s.steps[step], expected, product);
      CHECK(std::abs(product - expected) <=
            1e-3 * std::sqrt(magnitude));  // 0 at the last step: no label follows
    }
  }
}

namespace {

// Every edge of one ranking against the reference's own DELTA pass; with a list at every step the diagonal is of no
// schedule and left out.
void require_direct(const Setting& s, const std::vector<PageBudget>& budgets, const Setting::Found& found,
                    const Ranking& ranking, const std::vector<float>& deltas, const std::vector<float>& kls,
                    const std::vector<int32_t>& made_at) {
  const auto full = test::reference_run(s.path, s.ids, {s.n_prompt, {}, false});
  const size_t S = s.steps.size(), n_pairs = 10;
  for (size_t e = 0; e < budgets.size(); ++e)
    for (int source = 0; source < 4; ++source)
      for (int target = ranking.keeps_lists() ? source : source + 1; target < 4; ++target) {
        // The reference's own DELTA pass, sparse at one layer alone: below it everything is as under full
        // attention, also what the Δ-layer hands on between its lists.
        config::Schedule schedule;
        schedule.layers.resize(4);
        schedule.page_score = ranking.page;
        schedule.refresh_interval = ranking.refresh_interval;
        if (ranking.refresh_below) schedule.refresh = config::AdaptiveRefresh{*ranking.refresh_below, 16};
        schedule.layers[source] = {Role::delta, budgets[e].k_pages, budgets[e].l_pages};
        if (target > source) schedule.layers[target] = {Role::sparse, budgets[e].k_pages, 0};
        const auto restore = [&](int layer, test::Matrix& output) {
          if (layer == source && target > source) output = full.output[source];
        };
        const auto sparse = test::reference_run(s.path, s.ids, {s.n_prompt, schedule, false, restore});
        double sum = 0;
        for (size_t step = 0; step < S; ++step) {
          const Eigen::RowVectorXd change =
              sparse.output[target].row(s.steps[step]) - full.output[target].row(s.steps[step]);
          double expected = 0, magnitude = 0;
          for (int i = 0; i < s.row_size(); ++i) {
            const double term = found.gradient[target][step * s.row_size() + i] * change[i];
            expected += term;
            magnitude += std::abs(term);
          }
          sum += expected * expected;
          const float delta = deltas[(e * n_pairs + target * (target + 1) / 2 + source) * S + step];
          CAPTURE(e, source, target, s.steps[step], expected, delta);
          CHECK(std::abs(delta - expected) < 1e-3 * magnitude + 1e-7);
          if (pages_seen(s.steps[step]) <= budgets[e].k_pages) CHECK(delta == 0);
          const size_t i = size_t(source) * (s.ids.size() - s.n_prompt) + size_t(s.steps[step] - s.n_prompt);
          const int t0 = ranking.refresh_below
                             ? made_at.at(i)
                             : list_made_at(s.steps[step], s.n_prompt, ranking.refresh_interval);
          if (target == source && t0 == s.steps[step]) CHECK(delta == 0);
        }
        const float kl = kls[(e * 4 + target) * 4 + source];
        CHECK(std::abs(kl - 0.5 * sum / double(S)) <= 2e-3 * kl);
        if (target > source) CHECK(std::isnan(kls[(e * 4 + source) * 4 + target]));
      }
}

}  // namespace

TEST_CASE("sensitivity: deltas equal the gradient times the direct change of the attention output, by ranking") {
  const Setting s("llama");
  const std::vector<PageBudget> budgets{{2, 1}, {4, 1}, {4, 3}, {6, 2}};
  const auto found = s.run({budgets, {}, 1e-7, {{PageScore::max, 1}}});
  require_direct(s, budgets, found, {}, found.delta, found.kl, found.made_at[0]);
  require_direct(s, budgets, found, {PageScore::max, 1}, found.other_delta[0], found.other_kl[0],
                 found.made_at[1]);
  CHECK(found.other_delta[0] != found.delta);
  CHECK(s.run({budgets, {}, 1e-7}).delta == found.delta);  // other rankings leave the first as it is
}

TEST_CASE("sensitivity: with lists that serve several steps, deltas are those of the list in force, and of the Δ-layer itself") {
  Setting s("llama");
  s.steps = {31, 40, 64, 65, 100, 130, 149};  // 31: its list is that of the first step, 30
  const std::vector<PageBudget> budgets{{2, 1}, {4, 3}, {6, 2}};
  const std::vector<Ranking> rankings{{PageScore::sum, 4},
                                      {PageScore::max, 8},
                                      {PageScore::sum, 40},
                                      {PageScore::sum, 1, 0.1},
                                      {PageScore::max, 1, 0.3}};
  const auto found = s.run({budgets, {}, 1e-7, rankings});
  for (size_t i = 0; i < rankings.size(); ++i)
    require_direct(s, budgets, found, rankings[i], found.other_delta[i], found.other_kl[i],
                   found.made_at[i + 1]);
  // A signal makes some lists, at other steps in every layer, and never waits longer than 16 steps.
  for (const size_t i : {4u, 5u}) {
    const auto& made_at = found.made_at[i];
    const size_t n_steps = s.ids.size() - size_t(s.n_prompt);
    std::set<std::vector<int32_t>> by_layer;
    for (size_t layer = 0; layer < 4; ++layer)
      by_layer.emplace(made_at.begin() + layer * n_steps, made_at.begin() + (layer + 1) * n_steps);
    CHECK(by_layer.size() == 4);
    size_t lists = 0;
    for (size_t j = 0; j < made_at.size(); ++j) {
      const int t = s.n_prompt + int(j % n_steps);
      CHECK((made_at[j] <= t && t - made_at[j] < 16));
      lists += made_at[j] == t;
    }
    CAPTURE(lists, made_at.size());
    CHECK((lists > made_at.size() / 10 && lists < made_at.size() * 9 / 10));
  }
  // The lists of a chunk are used in later ones.
  const auto chunks = s.run({budgets, {}, 1e-7, rankings}, 16);
  CHECK(chunks.made_at == found.made_at);
  for (size_t ranking = 0; ranking < rankings.size(); ++ranking) {
    double worst = 0, largest = 0;
    for (size_t i = 0; i < chunks.other_delta[ranking].size(); ++i) {
      worst =
          std::max(worst, std::abs(double(chunks.other_delta[ranking][i]) - found.other_delta[ranking][i]));
      largest = std::max(largest, std::abs(double(found.other_delta[ranking][i])));
    }
    CHECK(worst < 1e-3 * largest);
  }
}

TEST_CASE(
    "sensitivity: with draws, half the mean square predicts the KL of a small change (Fisher information)") {
  Setting s("llama", 100);
  s.steps = {40, 64, 99};
  constexpr int draws = 300;
  const auto found = s.run({{{4, 1}}, {draws, 7}, 1e-7});
  const auto full = test::reference_run(s.path, s.ids, {s.n_prompt, {}, false});
  std::mt19937 random(4);
  std::normal_distribution<double> normal;
  const int step = 1;
  for (const int layer : {0, 2, 3}) {
    Eigen::RowVectorXd change(s.row_size());
    for (double& x : change) x = 1e-2 * normal(random);
    const auto changed =
        test::reference_run(s.path, s.ids, {s.n_prompt, {}, false, [&](int l, test::Matrix& output) {
                                              if (l == layer) output.row(s.steps[step]) += change;
                                            }});
    double kl = 0;
    for (size_t t = s.n_prompt; t < s.ids.size(); ++t) {
      const auto p = full.log_probability.row(t), q = changed.log_probability.row(t);
      kl += (p.array().exp() * (p - q).array()).sum();
    }
    double sum = 0, square = 0;
    for (int n = 0; n < draws; ++n) {
      double product = 0;
      for (int i = 0; i < s.row_size(); ++i)
        product += found.gradient[layer][(size_t(n) * s.steps.size() + step) * s.row_size() + i] * change[i];
      sum += product;
      square += product * product;
    }
    CAPTURE(layer, kl, 0.5 * square / draws, sum / draws);
    CHECK(std::abs(0.5 * square / draws - kl) < 0.35 * kl);  // 300 draws: 8% standard error if normal
    CHECK(std::abs(sum / draws) < 5 * std::sqrt(square / draws / draws));  // a score function has mean 0
  }
}

TEST_CASE("sensitivity: neither chunks nor watching change anything; draws follow the seed") {
  const Setting s("qwen2");
  const auto a = s.run({{{2, 1}, {4, 2}}, {2, 5}, 1e-7}, 64),
             b = s.run({{{2, 1}, {4, 2}}, {2, 5}, 1e-7}, 150);
  const auto other = s.run({{{2, 1}, {4, 2}}, {2, 6}, 1e-7}, 64);
  REQUIRE(a.delta.size() == b.delta.size());
  double worst = 0, largest = 0, differs = 0;
  for (size_t i = 0; i < a.delta.size(); ++i) {
    worst = std::max(worst, std::abs(double(a.delta[i]) - b.delta[i]));
    largest = std::max(largest, std::abs(double(a.delta[i])));
    differs = std::max(differs, std::abs(double(a.delta[i]) - other.delta[i]));
  }
  CHECK(largest > 0);
  CHECK(worst < 1e-3 * largest);
  CHECK(differs > 1e-2 * largest);
}
