// Predicted KL of whole schedules with their cross terms, from changes of the loss that are written by hand.
#include "calib/joint.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "support/scratch.h"

using namespace deltacal;
using namespace deltacal::calib;
using Catch::Approx;
using config::Role;

namespace {

constexpr int n_layers = 3, n_tokens = 60, n_edges = 6;
const std::vector<PageBudget> budgets{{1, 1}, {2, 1}};

ModelInfo model() {
  ModelInfo m;
  m.name = m.architecture = "llama";
  m.sha256 = std::string(64, 'a');
  m.n_layers = n_layers;
  m.n_heads = m.n_kv_heads = 1;
  m.head_dim = 8;
  m.max_context = 100;
  m.dtype = "f32";
  return m;
}

// A sample whose steps are 10..10+n-1 of burst 0 and 40..40+n-1 of burst 1; delta(gradient, budget, edge,
// step).
template <class Delta>
void write_sample(trace::Writer& writer, int index, int n, int n_gradients, Delta delta) {
  trace::SamplePlan plan;
  plan.info.id = plan.info.problem = "s" + std::to_string(index);
  plan.info.mode = "replay";
  plan.max_tokens = n_tokens;
  plan.max_steps = 2 * n;
  trace::SampleWriter to = writer.begin(index, plan);
  std::vector<int32_t> ids(n_tokens, index), steps, burst;
  for (int b = 0; b < 2; ++b)
    for (int i = 0; i < n; ++i) steps.push_back((b ? 40 : 10) + i), burst.push_back(b);
  const std::vector<float> page(size_t(2 * n) * 4, 0.25f);
  for (int layer = 0; layer < n_layers; ++layer) to.write_pages(layer, 0, 2 * n, 4, page, page);
  trace::EdgeSensitivity edges{budgets, n_gradients,
                               std::vector<float>(budgets.size() * n_layers * n_layers, 0.0f)};
  std::vector<float> values;
  for (int g = 0; g < n_gradients; ++g)
    for (int b = 0; b < 2; ++b)
      for (int e = 0; e < n_edges; ++e)
        for (int s = 0; s < 2 * n; ++s) values.push_back(delta(g, b, e, s));
  to.write_sensitivity(edges, values);
  to.finish(ids, steps, burst, std::vector<float>(n_tokens - 1, 1.0f));
}

config::Schedule schedule(int k1, int k2) {
  config::Schedule s;
  s.layers = {{Role::delta, std::max(k1, k2), 1}, {Role::sparse, k1, 0}, {Role::sparse, k2, 0}};
  return s;
}

}  // namespace

TEST_CASE("joint: the sums by hand: layers that cancel, steps that add up, bursts kept apart") {
  const test::Scratch scratch;
  {
    trace::Writer writer(scratch / "t.h5", trace::Writer::Start::fresh, model(), {}, {});
    // Edges 0->1 (number 1) and 0->2 (number 3): opposite at budget 0, equal at budget 1.
    write_sample(writer, 0, 18, 1, [](int, int budget, int edge, int) {
      return edge == 1 ? 0.5f : edge == 3 ? (budget == 0 ? -0.5f : 0.5f) : 8.0f;
    });
    writer.finish();
  }
  const trace::Reader trace(scratch / "t.h5");
  JointPredictor joint(trace, {{1, 2}, {1}});
  const JointKl cancel = joint.predict(schedule(1, 1)), add = joint.predict(schedule(2, 2));
  CHECK(cancel.additive == Approx(0.5 * 2 * 0.25));
  CHECK(cancel.layers == Approx(0).margin(1e-12));
  CHECK(cancel.steps == Approx(0).margin(1e-12));
  CHECK(add.additive == Approx(0.5 * 2 * 0.25));
  CHECK(add.layers == Approx(0.5 * 1.0));
  // Windows of 16 and 2 steps in each burst of 18: (16 x 1)^2 / 16 = 16 and 2.
  CHECK(add.steps == Approx(0.5 * (16 + 2) / 2.0));
  // k is rounded down to the grid; below it nothing is known.
  CHECK(joint.predict(schedule(3, 2)).layers == Approx(add.layers));
  JointPredictor coarse(trace, {{2}, {1}});
  CHECK(std::isnan(coarse.predict(schedule(1, 2)).additive));
}

TEST_CASE("joint: a mean over samples of the mean over sets of labels") {
  const test::Scratch scratch;
  {
    trace::Writer writer(scratch / "t.h5", trace::Writer::Start::fresh, model(), {}, {});
    write_sample(writer, 0, 4, 2, [](int gradient, int, int, int) { return gradient == 0 ? 1.0f : 3.0f; });
    write_sample(writer, 1, 6, 1, [](int, int, int, int) { return 2.0f; });
    writer.finish();
  }
  const trace::Reader trace(scratch / "t.h5");
  const JointKl kl = JointPredictor(trace, {{1, 2}, {1}}).predict(schedule(1, 2));
  const double first = 0.5 * ((2 * 1.0 + 2 * 9.0) / 2), second = 0.5 * 2 * 4.0;
  CHECK(kl.additive == Approx((first + second) / 2));
  CHECK(kl.layers == Approx((0.5 * (4 + 36) / 2 + 0.5 * 16) / 2));
}
