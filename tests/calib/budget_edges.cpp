// Edge costs from recall, and the config made of a choice.
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>

#include "calib/schedule/schedule.h"
#include "calib/to_config.h"
#include "core/error.h"
#include "support/scratch.h"

using namespace deltacal;
using namespace deltacal::calib;
using Catch::Approx;
using config::Role;

namespace {

const Grid grid{{4, 8}, {2, 8}};  // pairs (4,2), (8,2), (8,8)

std::vector<SampleRecall> samples(int n, int n_layers) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(0, 1);
  std::vector<SampleRecall> all;
  for (int i = 0; i < n; ++i) {
    SampleRecall sample;
    sample.id = "s" + std::to_string(i);
    sample.problem = "p" + std::to_string(i);
    sample.n_layers = n_layers;
    sample.n_steps = 10;
    sample.n_active = {10, 10};
    const size_t size = 3u * n_layers * n_layers;
    sample.mean_active.assign(size, NAN);
    sample.mean_lost.assign(size, NAN);
    for (int pair = 0; pair < 3; ++pair)
      for (int target = 0; target < n_layers; ++target)
        for (int source = 0; source <= target; ++source) {
          const float active = uniform(random);
          sample.mean_active[sample.at(pair, target, source)] = active;
          sample.mean_lost[sample.at(pair, target, source)] = 0.5f * (1 - active);
        }
    all.push_back(sample);
  }
  return all;
}

}  // namespace

TEST_CASE("budget: an edge's loss is the mean over samples of the mass lost on all steps, times its weight") {
  const auto all = samples(5, 3);
  const std::vector<double> weights{1, 2, 3};
  const auto edges = recall_costs(grid, all, {}, weights);
  double lost = 0, active = 0;
  for (const auto& sample : all) {
    lost += sample.mean_lost[sample.at(1, 2, 1)];
    active += sample.mean_active[sample.at(1, 2, 1)];
  }
  const size_t edge = edges.at(2, 1, 1, 0);  // K 8, L 2
  CHECK(edges.loss[edge] == Approx(3 * lost / 5));
  CHECK(edges.recall_mean[edge] == Approx(active / 5));
  CHECK(edges.recall_low[edge] < edges.recall_mean[edge]);
  CHECK(edges.recall_high[edge] > edges.recall_mean[edge]);
  CHECK(std::isnan(edges.loss[edges.at(2, 1, 0, 1)]));  // K 4, L 8
  CHECK(std::isnan(edges.loss[edges.at(1, 2, 1, 0)]));  // source above target
  CHECK(recall_costs(grid, all, {}).loss[edge] == Approx(lost / 5));
}

TEST_CASE("budget: a sample without the edge counts in no mean, and three problems give no bound") {
  auto all = samples(5, 2);
  const size_t entry = all[0].at(0, 1, 0);
  all[0].mean_lost[entry] = all[0].mean_active[entry] = NAN;
  all[1].mean_active[entry] = NAN;
  const auto edges = recall_costs(grid, all, {});
  double lost = 0;
  for (int i = 1; i < 5; ++i) lost += all[i].mean_lost[entry];
  CHECK(edges.loss[edges.at(1, 0, 0, 0)] == Approx(lost / 4));
  CHECK_FALSE(std::isnan(edges.recall_mean[edges.at(1, 0, 0, 0)]));
  CHECK(std::isnan(edges.recall_low[edges.at(1, 0, 0, 0)]));
  CHECK_THROWS_AS(recall_costs(grid, {}, {}), Error);
  all[2].n_layers = 1;
  CHECK_THROWS_AS(recall_costs(grid, all, {}), Error);
}

TEST_CASE("budget: a K that no recorded step exceeds is unknown, not free of loss") {
  auto all = samples(5, 3);
  for (auto& sample : all) sample.n_active[1] = 0;  // K 8
  const auto edges = recall_costs(grid, all, {});
  CHECK(std::isnan(edges.loss[edges.at(2, 1, 1, 0)]));
  CHECK_FALSE(std::isnan(edges.loss[edges.at(2, 1, 0, 0)]));
  all[3].n_active[1] = 1;
  CHECK_FALSE(std::isnan(recall_costs(grid, all, {}).loss[edges.at(2, 1, 1, 0)]));
}

TEST_CASE(
    "budget: a chosen schedule becomes a config that reads back, with what to expect and its alternatives") {
  const auto all = samples(5, 6);
  const auto edges = recall_costs(grid, all, {});
  const std::vector<config::StepRange> ranges{{10, 600}, {20, 900}};
  const StepCosts costs(ranges);
  const auto found =
      schedule::k_best(edges, layer_costs(costs, grid.k_pages),
                       attended_budget(layer_costs(costs, grid.k_pages), 6, 1.2), {.candidates = 3});
  REQUIRE(found.size() == 3);
  std::vector<Choice> choices;
  for (const auto& candidate : found)
    choices.push_back({"dp", candidate.schedule, candidate.loss, candidate.cost});
  const ModelInfo model{"tiny", "llama", std::string(64, 'a'), 6, 9, 3, 64, 16, 8192, "f32"};
  const CalibrationRecord record{"t.h5",
                                 std::string(64, 'c'),
                                 {{"a", "gsm8k", "gsm8k/1", std::string(64, 'd')}},
                                 "recall",
                                 "the trace has no predicted KL",
                                 "attended=1.2",
                                 3000,
                                 "mean",
                                 7};
  const auto made = to_config(choices, model, edges, costs, record);
  test::Scratch folder;
  config::write(made, folder / "c.json", Existing::refuse, {"deltacal calibrate", 7});
  const auto read = config::read(folder / "c.json");
  CHECK(read.schedule == found[0].schedule);
  CHECK(read.expected.attended_ratio.size() == 3);  // 2048, 3000 and 8192: not beyond the model's context
  CHECK(read.expected.attended_ratio.at("3000") ==
        Approx(config::attended_ratio(found[0].schedule, {{0, 3000}})));
  size_t n_sparse = 0;
  for (const auto& plan : read.schedule.layers) n_sparse += plan.role == Role::sparse;
  REQUIRE(read.expected.recall.size() == n_sparse);
  const auto& first = read.expected.recall[0];
  const auto& plan = read.schedule.layers[first.layer];
  const int source = config::source_of(read.schedule, first.layer);
  const int pair = plan.k_pages == 4 ? 0 : read.schedule.layers[source].l_pages == 2 ? 1 : 2;
  double active = 0;
  for (const auto& sample : all) active += sample.mean_active[sample.at(pair, first.layer, source)] / 5;
  CHECK(first.recall.mean == Approx(active).epsilon(1e-5));
  CHECK(first.recall.low);
  const auto& alternatives = read.provenance["alternatives"];
  REQUIRE(alternatives.size() == 3);
  CHECK(alternatives[0]["schedule"] == config::describe(found[0].schedule));
  CHECK(alternatives[1]["loss"].get<double>() == Approx(found[1].loss).epsilon(1e-5));
  CHECK(alternatives[0]["attended_ratio"].get<double>() ==
        Approx(config::attended_ratio(found[0].schedule, ranges)).epsilon(1e-5));
  CHECK(read.provenance["budget"] == "attended=1.2");
  const auto seen = calibrated_on(read, "c.json");
  REQUIRE(seen.size() == 1);
  CHECK(seen[0].problem == "gsm8k/1");
  CHECK(seen[0].sha256 == std::string(64, 'd'));
  CHECK(calibrated_on({}, "c.json").empty());
  auto odd = read;
  odd.provenance["samples"] = 3;
  CHECK_THROWS_AS(calibrated_on(odd, "c.json"), Error);
}
