#include "evaluate/evaluate.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>

#include "support/reference_model.h"
#include "support/scratch.h"
#include "support/tiny_model.h"

using namespace deltacal;
using config::Role;

namespace {

struct Tiny {
  test::Scratch scratch;
  std::string path = scratch / "m.gguf";
  Tiny() { test::write_tiny_model({}, path); }
};

std::vector<int32_t> random_ids(int n) {
  std::mt19937 random(12);
  std::vector<int32_t> ids(n);
  for (auto& id : ids) id = int32_t(random() % 288);
  return ids;
}

config::Schedule schedule_of(int k, int l) {
  config::Schedule schedule;
  schedule.layers = {{Role::full, 0, 0}, {Role::delta, k, l}, {Role::sparse, k, 0}, {Role::sparse, k - 1, 0}};
  return schedule;
}

}  // namespace

TEST_CASE("evaluate: NLL, KL, agreement and recall equal the double-precision transformer under the schedule") {
  const Tiny tiny;
  const model::Model model = model::Model::load(tiny.path, model::Dtype::f32);
  const auto ids = random_ids(220);
  const int n_prompt = 30, T = 220;
  const auto schedule = schedule_of(4, 1);
  const auto scores = evaluate::evaluate(model, ids, n_prompt, {{"delta", decode::delta_policy(schedule)}}, {64, 1000}, nullptr);

  const auto full = test::reference_run(tiny.path, ids, {n_prompt, {}, false});
  const auto sparse = test::reference_run(tiny.path, ids, {n_prompt, schedule, true});
  REQUIRE(scores.nll_full.size() == size_t(T - n_prompt));
  const auto& run = scores.policies.at(0);
  double nll_error = 0, kl_error = 0, kl_mean = 0;
  int agreements_differ = 0;
  for (int i = 0; i < T - n_prompt; ++i) {
    const int t = n_prompt + i;
    const auto p = full.log_probability.row(t), q = sparse.log_probability.row(t);
    const double kl = (p.array().exp() * (p - q).array()).sum();
    kl_error = std::max(kl_error, std::abs(run.kl[i] - kl));
    kl_mean += kl / (T - n_prompt);
    Eigen::Index best_p, best_q;
    p.maxCoeff(&best_p);
    q.maxCoeff(&best_q);
    agreements_differ += (best_p == best_q) != bool(run.top1[i]);
    if (t + 1 == T) continue;
    nll_error = std::max({nll_error, std::abs(scores.nll_full[i] - full.nll[t]), std::abs(run.nll[i] - sparse.nll[t])});
  }
  CHECK(std::isnan(scores.nll_full.back()));
  CHECK(nll_error < 1e-3);
  CHECK(kl_error < 1e-3);
  CHECK(kl_mean > 0.01);  // the schedule does lose something
  CHECK(agreements_differ <= 1);

  // Recall on the sparse run's own hidden states: the k largest pages of layer 1's score, the newest one among them.
  REQUIRE(run.recall.size() == 2);
  for (const auto& [layer, k] : {std::pair{2, 4}, std::pair{3, 3}}) {
    double kept = 0;
    int n = 0;
    for (int t = std::max(n_prompt, 3 * 16); t < T; ++t) {
      const int U = t / 16 + 1;
      if (U <= k) continue;
      std::vector<std::pair<double, int>> ranked;
      for (int u = 0; u < U - 1; ++u) ranked.push_back({-(sparse.score[1](t, u) - 1e-7 * u), u});
      std::sort(ranked.begin(), ranked.end());
      kept += sparse.mass[layer](t, U - 1);
      for (int j = 0; j < k - 1; ++j) kept += sparse.mass[layer](t, ranked[j].second);
      ++n;
    }
    CHECK(run.recall[layer - 2].layer == layer);
    CHECK(std::abs(run.recall[layer - 2].mean - kept / n) < 1e-3);
  }
}

TEST_CASE("evaluate: with refresh, the losses are those of the double-precision transformer, Δ-layers have a recall") {
  const Tiny tiny;
  const model::Model model = model::Model::load(tiny.path, model::Dtype::f32);
  const auto ids = random_ids(220);
  auto schedule = schedule_of(4, 1);
  schedule.refresh_interval = 9;
  const auto scores = evaluate::evaluate(model, ids, 30, {{"delta", decode::delta_policy(schedule)}}, {64, 1000}, nullptr);
  const auto sparse = test::reference_run(tiny.path, ids, {30, schedule, false});
  const auto& run = scores.policies.at(0);
  double nll_error = 0;
  for (int t = 30; t + 1 < 220; ++t) nll_error = std::max(nll_error, std::abs(run.nll[t - 30] - sparse.nll[t]));
  CHECK(nll_error < 1e-3);
  long long attended = 0;
  for (int t = 30; t < 220; ++t) attended += config::attended_positions(schedule, t, 30);
  CHECK(run.attended == attended);
  REQUIRE(run.recall.size() == 3);
  CHECK(run.recall[0].layer == 1);
  CHECK((run.recall[0].mean > 0 && run.recall[0].mean < 1));
}

TEST_CASE("evaluate: a budget of all pages loses exactly nothing") {
  const Tiny tiny;
  const model::Model model = model::Model::load(tiny.path, model::Dtype::f32);
  const auto ids = random_ids(150);
  const auto scores = evaluate::evaluate(model, ids, 10, {{"delta", decode::delta_policy(schedule_of(20, 1))}}, {}, nullptr);
  const auto& run = scores.policies.at(0);
  CHECK(run.attended == scores.positions);
  CHECK(run.recall.empty());
  for (size_t i = 0; i < run.kl.size(); ++i) {
    CHECK(run.kl[i] == 0);
    CHECK(run.top1[i] == 1);
    if (i + 1 < run.kl.size()) CHECK(run.nll[i] == scores.nll_full[i]);
  }
}

TEST_CASE("evaluate: attended positions are those of the pages attended") {
  const Tiny tiny;
  const model::Model model = model::Model::load(tiny.path, model::Dtype::f32);
  const auto ids = random_ids(100);
  const auto scores = evaluate::evaluate(
      model, ids, 5, {{"delta", decode::delta_policy(schedule_of(3, 1))}, {"streaming", decode::streaming_policy({0, 0, 3, 2})}}, {}, nullptr);
  long long all = 0, attended = 0;
  for (int t = 5; t < 100; ++t) {
    all += 4 * (t + 1);
    attended += 2 * (t + 1);
    for (const int k : {3, 2}) {
      int positions = 0;  // the newest page as far as it is filled, and k-1 full ones
      for (int u = t / 16, taken = 0; u >= 0 && taken < k; --u, ++taken) positions += taken == 0 ? t % 16 + 1 : 16;
      attended += positions;
    }
  }
  CHECK(scores.positions == all);
  CHECK(scores.policies[0].attended == attended);
  CHECK(scores.policies[1].attended == attended);
}
