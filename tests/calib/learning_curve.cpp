// Learning curve: which samples and steps are taken, the predicted KL of fewer steps and the figures of a
// point by hand.
#include "calib/learning_curve.h"

#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "support/scratch.h"

using namespace deltacal;
using namespace deltacal::calib;
using Catch::Approx;

namespace {

constexpr int n_layers = 2, n_tokens = 60, n_edges = 3;
const std::vector<PageBudget> budgets{{1, 1}, {2, 1}};

// Two samples of 8 and of 3 steps; the change of the loss is the number of the step, times 10 for budget 1,
// for the first of two sets of labels, and 0 for the second. What is stored as edge_kl is 7 everywhere.
void write_trace(const std::string& path) {
  ModelInfo model;
  model.name = model.architecture = "llama";
  model.sha256 = std::string(64, 'a');
  model.n_layers = n_layers;
  model.n_heads = model.n_kv_heads = 1;
  model.head_dim = 8;
  model.max_context = 100;
  model.dtype = "f32";
  trace::Writer writer(path, trace::Writer::Start::fresh, model, {}, {});
  for (int index = 0; index < 2; ++index) {
    const int n = index == 0 ? 8 : 3;
    trace::SamplePlan plan;
    plan.info.id = plan.info.problem = "s" + std::to_string(index);
    plan.info.mode = "replay";
    plan.max_tokens = n_tokens;
    plan.max_steps = n;
    trace::SampleWriter to = writer.begin(index, plan);
    std::vector<int32_t> ids(n_tokens, index), steps, burst(n, 0);
    for (int i = 0; i < n; ++i) steps.push_back(20 + i);
    const std::vector<float> page(size_t(n) * 2, 0.5f);
    for (int layer = 0; layer < n_layers; ++layer) to.write_pages(layer, 0, n, 2, page, page);
    std::vector<float> kl(budgets.size() * n_layers * n_layers, 7.0f), values;
    for (size_t b = 0; b < budgets.size(); ++b) kl[b * 4 + 1] = NAN;
    for (int g = 0; g < 2; ++g)
      for (int b = 0; b < 2; ++b)
        for (int e = 0; e < n_edges; ++e)
          for (int s = 0; s < n; ++s)
            values.push_back(g == 0 ? float(s * (b == 0 ? 1 : 10) * (e + 1)) : 0.0f);
    to.write_sensitivity({budgets, 2, kl}, values);
    to.finish(ids, steps, burst, std::vector<float>(n_tokens - 1, 1.0f));
  }
  writer.finish();
}

}  // namespace

TEST_CASE(
    "learning curve: the first samples are of as many problems as can be, in an order that the seed "
    "decides") {
  const std::vector<std::string> problems{"p", "p", "q", "r", "q", "p"};
  std::set<std::vector<int>> orders;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const std::vector<int> order = mixed_order(problems, seed);
    std::set<std::string> first;
    for (int i = 0; i < 3; ++i) first.insert(problems[order[i]]);
    CHECK(first.size() == 3);
    CHECK(
        (problems[order[3]] != "r" && problems[order[4]] != problems[order[3]] && problems[order[5]] == "p"));
    CHECK(std::set<int>(order.begin(), order.end()).size() == 6);
    CHECK(mixed_order(problems, seed) == order);
    orders.insert(order);
  }
  CHECK(orders.size() > 10);
  CHECK(doubling_sizes(1, 12) == std::vector{1, 2, 4, 8});
  CHECK(doubling_sizes(1, 8) == std::vector{1, 2, 4});
  CHECK(doubling_sizes(32, 20).empty());
}

TEST_CASE(
    "learning curve: predicted KL of steps spread evenly, by hand; of all steps it is the recorded one") {
  const test::Scratch scratch;
  write_trace(scratch / "t.h5");
  const trace::Reader trace(scratch / "t.h5");
  const Grid grid{{1, 2}, {1}};
  const auto at = [&](int n_steps, int sample, int pair, int target, int source) {
    const SampleKl kl = predicted_kl_of_steps(trace, grid, n_steps)[sample];
    return kl.kl[kl.at(pair, target, source)];
  };
  // 2 of 8: the steps 2 and 6, 1/2 (4 + 36) / 2 = 10; half of it, as the second set of labels has 0.
  CHECK(at(2, 0, 0, 0, 0) == Approx(5));
  CHECK(at(2, 0, 1, 0, 0) == Approx(500));
  CHECK(at(2, 0, 0, 1, 0) == Approx(5 * 4));  // the second edge in row order
  CHECK(at(2, 0, 0, 1, 1) == Approx(5 * 9));
  CHECK(std::isnan(at(2, 0, 0, 0, 1)));
  // 3 of 8: the steps 1, 4 and 6.
  CHECK(at(3, 0, 0, 0, 0) == Approx(0.5 * (1 + 16 + 36) / 6));
  CHECK(at(1, 1, 0, 0, 0) == Approx(0.5 * 1 / 2));  // the middle one of 3
  CHECK(at(3, 1, 0, 0, 0) == 7);
  CHECK(at(8, 0, 1, 1, 0) == 7);
  CHECK(at(100, 0, 1, 1, 0) == 7);
  CHECK(test::error_of([&] { predicted_kl_of_steps(trace, grid, 0); }).find("at least 1") !=
        std::string::npos);
  CHECK(test::error_of([&] {
          predicted_kl_of_steps(trace, {{3}, {1}}, 2);
        }).find("K = 3, L = 1") != std::string::npos);
}

TEST_CASE("learning curve: a point is the mean over its draws, against the schedule of everything") {
  const std::vector<std::string> problems{"a", "b", "c", "d"};
  const Resampler resampler(problems, {100, 1, 0.95});
  const std::vector<double> all{0.01, 0.02, 0.03, 0.04};
  MeasuredPoint point{2, 64, {}, 1};
  point.draws.push_back({"x", {0.02, 0.03, 0.04, 0.05}, {0.1, 0.1, 0.1, 0.1}});
  point.draws.push_back({"y", {0.04, 0.05, 0.06, 0.07}, {0.3, 0.3, 0.3, 0.3}});
  point.draws.push_back({"x", {0.02, 0.03, 0.04, 0.05}, {0.1, 0.1, 0.1, 0.1}});
  const CurveRow row = curve_row(point, all, resampler);
  CHECK((row.n_samples == 2 && row.n_steps == 64 && row.n_draws == 3 && row.n_unsolved == 1 &&
         row.n_schedules == 2));
  CHECK(row.nll_gap.mean == Approx((0.035 + 0.055 + 0.035) / 3));
  CHECK(row.kl.mean == Approx(0.5 / 3));
  CHECK(row.least == Approx(0.035));
  CHECK(row.largest == Approx(0.055));
  // Every sample is worse by the same (0.01 + 0.03 + 0.01) / 3: the paired difference is certain, the gap is
  // not.
  CHECK(row.vs_all.mean == Approx(0.05 / 3));
  REQUIRE((row.vs_all.low && row.nll_gap.low));
  CHECK(*row.vs_all.low == Approx(0.05 / 3));
  CHECK(*row.vs_all.high == Approx(0.05 / 3));
  CHECK(*row.nll_gap.high - *row.nll_gap.low > 0.01);

  const CurveRow none = curve_row({1, 64, {}, 3}, all, resampler);
  CHECK((none.n_draws == 0 && none.n_unsolved == 3 && std::isnan(none.nll_gap.mean) && !none.vs_all.low));
  point.draws[1].kl.pop_back();
  CHECK_THROWS_AS(curve_row(point, all, resampler), Error);
}
