// Predicted KL as an edge's loss: aggregation over samples, and where it disagrees with recall.
#include "calib/predicted_kl.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "calib/edges.h"
#include "calib/schedule/schedule.h"
#include "support/scratch.h"

using namespace deltacal;
using namespace deltacal::calib;
using Catch::Approx;

namespace {

constexpr int n_layers = 4;
const Grid grid{{4}, {1}};

// Recall and predicted KL of one budget by functions of (target, source); every step is active.
struct Tables {
  std::vector<SampleRecall> recall;
  std::vector<SampleKl> kl;
};
template <class Lost, class Kl>
Tables tables(int n_samples, Lost lost, Kl kl) {
  Tables out;
  for (int s = 0; s < n_samples; ++s) {
    SampleRecall recall;
    recall.id = recall.problem = "s" + std::to_string(s);
    recall.n_layers = n_layers;
    recall.n_steps = 10;
    recall.n_active = {10};
    recall.mean_lost.assign(n_layers * n_layers, NAN);
    recall.mean_active = recall.mean_lost;
    SampleKl of{recall.id, recall.problem, n_layers, std::vector<float>(n_layers * n_layers, NAN)};
    for (int target = 0; target < n_layers; ++target)
      for (int source = 0; source <= target; ++source) {
        recall.mean_lost[recall.at(0, target, source)] = float(lost(target, source));
        recall.mean_active[recall.at(0, target, source)] = 1 - float(lost(target, source));
        of.kl[of.at(0, target, source)] = float(kl(s, target, source));
      }
    out.recall.push_back(recall);
    out.kl.push_back(of);
  }
  return out;
}

}  // namespace

TEST_CASE("predicted kl: mean, CVaR and maximum of the samples, edge by edge") {
  const auto all = tables(
      5, [](int, int) { return 0.1; }, [](int s, int target, int) { return 0.01 * (s + 1) * target; });
  const auto loss = [&](const char* how) {
    const EdgeCosts edges = kl_costs(grid, all.recall, all.kl, parse_aggregate(how), {});
    return edges.loss[edges.at(3, 1, 0, 0)];
  };
  CHECK(loss("mean") == Approx(0.03 * 3));
  CHECK(loss("max") == Approx(0.05 * 3));
  CHECK(loss("cvar:0.2") == Approx(0.05 * 3));
  CHECK(loss("cvar:0.4") == Approx(0.045 * 3));
  CHECK(loss("cvar:0.3") == Approx((0.05 + 0.5 * 0.04) / 1.5 * 3));
  CHECK(aggregate({}, {}) != aggregate({}, {}));  // NaN
  const EdgeCosts edges = kl_costs(grid, all.recall, all.kl, {}, {});
  CHECK(std::isnan(edges.loss[edges.at(1, 2, 0, 0)]));
  CHECK(edges.recall_mean[edges.at(3, 1, 0, 0)] == Approx(0.9));
}

TEST_CASE("predicted kl: what is no aggregate is refused with what is accepted") {
  for (const char* text :
       {"", "median", "cvar", "cvar:", "cvar:0", "cvar:1", "cvar:-1", "cvar:0.1x", "cvar:nan"})
    CHECK(test::error_of([&] { parse_aggregate(text); }).find("cvar:0.1") != std::string::npos);
  for (const char* text : {"mean", "max", "cvar:0.25"}) CHECK(name_of(parse_aggregate(text)) == text);
}

TEST_CASE("predicted kl: where recall and loss disagree by construction, kl finds the better schedule") {
  // Layer 2 keeps less attention than layer 3 under any list, but nothing depends on it; layer 3 keeps nearly
  // all, and the rest decides the next token. One of the two may be sparse.
  const auto all = tables(
      4, [](int target, int) { return target == 2 ? 0.5 : 0.01; },
      [](int, int target, int) { return target == 2 ? 1e-4 : 0.2; });
  const LayerCosts costs{100, 100, {20}};
  schedule::Options options;
  options.full_layers = 1;
  const auto by_recall = schedule::k_best(recall_costs(grid, all.recall, {}), costs, 320, options).front();
  const auto by_kl =
      schedule::k_best(kl_costs(grid, all.recall, all.kl, {}, {}), costs, 320, options).front();
  using config::Role;
  CHECK(by_recall.schedule.layers[3].role == Role::sparse);
  CHECK(by_recall.schedule.layers[2].role != Role::sparse);
  CHECK(by_kl.schedule.layers[2].role == Role::sparse);
  CHECK(by_kl.schedule.layers[3].role != Role::sparse);
  CHECK(by_kl.loss == Approx(1e-4));
}
