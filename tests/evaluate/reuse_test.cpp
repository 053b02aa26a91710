#include "evaluate/reuse.h"

#include <catch2/catch_test_macros.hpp>
#include <random>

#include "decode/decoder.h"
#include "decode/kv_cache.h"
#include "evaluate/evaluate.h"
#include "support/scratch.h"
#include "support/tiny_model.h"

using namespace deltacal;
using config::Role;

namespace {

config::LayerPlan full() {
  return {Role::full, 0, 0};
}
config::LayerPlan delta(int k, int l) {
  return {Role::delta, k, l};
}
config::LayerPlan sparse(int k) {
  return {Role::sparse, k, 0};
}

decode::Policy policy_of(std::vector<config::LayerPlan> layers, PageScore page_score = PageScore::sum,
                         int refresh_interval = 1) {
  config::Schedule schedule;
  schedule.page_score = page_score;
  schedule.layers = std::move(layers);
  schedule.refresh_interval = refresh_interval;
  return decode::delta_policy(schedule);
}

}  // namespace

TEST_CASE(
    "reuse: a run begins at the first layer that differs, or at the Δ-layer whose list that one reads") {
  const auto a = policy_of({full(), delta(4, 1), sparse(4), sparse(3), delta(4, 1), sparse(4)});
  const auto all = decode::full_policy(6);
  CHECK(evaluate::first_layer(a, all) == 1);  // layer 2 differs; its list is made at 1
  CHECK(evaluate::first_layer(all, a) == 2);
  CHECK(evaluate::first_layer(a, a) == 4);  // the last layer's own output is not kept; it reads the list of 4
  CHECK(evaluate::first_layer(all, all) == 5);
  // A Δ-layer attends like a full one; a longer list serves the same prefix; another L or k does not.
  CHECK(evaluate::first_layer(policy_of({full(), delta(8, 1), sparse(4), sparse(3), full(), full()}), a) ==
        5);
  CHECK(evaluate::first_layer(policy_of({full(), delta(4, 1), sparse(4), sparse(2), delta(4, 1), sparse(4)}),
                              a) == 1);
  CHECK(evaluate::first_layer(policy_of({full(), delta(4, 2), sparse(4), sparse(3), delta(4, 1), sparse(4)}),
                              a) == 1);
  CHECK(evaluate::first_layer(policy_of({full(), delta(4, 1), sparse(4), sparse(3), sparse(3), sparse(4)}),
                              a) == 1);
  CHECK(evaluate::first_layer(policy_of({full(), delta(4, 1), sparse(4), sparse(3), delta(4, 1), sparse(2)}),
                              a) == 4);
  CHECK(evaluate::first_layer(decode::streaming_policy({0, 2, 2, 2, 2, 2}), a) == 1);
}

TEST_CASE("reuse: with refresh a run differs from full attention from its first Δ-layer on") {
  const std::vector<config::LayerPlan> layers{full(), full(), delta(4, 1), full(), full(), sparse(4)};
  const auto a = policy_of(layers), b = policy_of(layers, PageScore::sum, 4), all = decode::full_policy(6);
  CHECK(evaluate::first_layer(a, all) == 2);  // for its list alone
  CHECK(evaluate::first_layer(all, a) == 5);
  CHECK(evaluate::first_layer(all, b) == 2);
  CHECK(evaluate::first_layer(b, all) == 2);
  CHECK(evaluate::first_layer(b, a) == 2);
  CHECK(evaluate::first_layer(b, policy_of(layers, PageScore::sum, 2)) == 2);
  CHECK(evaluate::first_layer(b, b) == 2);
  // Between its lists a Δ-layer attends to its own k pages.
  auto longer = layers;
  longer[2].k_pages = 8;
  CHECK(evaluate::first_layer(policy_of(longer), a) == 2);
  const std::vector<config::LayerPlan> twice{full(), delta(4, 1), sparse(4), delta(4, 1), full(), sparse(4)};
  auto second = twice;
  second[3].k_pages = 8;
  CHECK(evaluate::first_layer(policy_of(second, PageScore::sum, 4), policy_of(twice, PageScore::sum, 4)) ==
        3);
  second[1].k_pages = 8;
  CHECK(evaluate::first_layer(policy_of(second, PageScore::sum, 4), policy_of(twice, PageScore::sum, 4)) ==
        1);
}

TEST_CASE("reuse: with lists by a signal a run is that of the same signal alone") {
  const std::vector<config::LayerPlan> layers{full(), full(), delta(4, 1), full(), sparse(4), sparse(4)};
  const auto by_signal = [&](double threshold, int most) {
    decode::Policy policy = policy_of(layers);
    policy.refresh = config::AdaptiveRefresh{threshold, most};
    return policy;
  };
  const auto a = by_signal(0.8, 16);
  // Layers 2 to 4 give the same output, the last reads the list of 2.
  CHECK(evaluate::first_layer(a, by_signal(0.8, 16)) == 2);
  for (const auto& other : {by_signal(0.9, 16), by_signal(0.8, 8), policy_of(layers),
                            policy_of(layers, PageScore::sum, 4), decode::full_policy(6)}) {
    CHECK(evaluate::first_layer(a, other) == 2);
    const std::vector<decode::Policy> batch{other, a};
    CHECK(evaluate::plan_reuse(batch, false)[1].run == -1);  // no layer more is saved than by full attention
  }
  auto last_is_full = a;
  last_is_full.layers[5] = {};
  CHECK(evaluate::first_layer(last_is_full, a) == 5);
  CHECK(evaluate::first_layer(last_is_full, by_signal(0.9, 16)) == 2);
}

TEST_CASE(
    "reuse: under another page score a run begins at the first Δ-layer, under the same one at the last") {
  const std::vector<config::LayerPlan> layers{full(), delta(4, 1), sparse(4), delta(4, 1), sparse(4), sparse(4)};
  auto last_differs = layers;
  last_differs[5] = sparse(2);
  const auto sum = policy_of(layers), max = policy_of(layers, PageScore::max);
  CHECK(evaluate::first_layer(max, sum) == 1);
  CHECK(evaluate::first_layer(policy_of(last_differs, PageScore::max), max) == 3);
  CHECK(evaluate::first_layer(policy_of(last_differs), max) == 1);
}

TEST_CASE("reuse: scores of a batch are those of each policy run by itself, bit for bit") {
  const test::Scratch scratch;
  test::TinyModel tiny;
  tiny.n_layers = 6;
  test::write_tiny_model(tiny, scratch / "m.gguf");
  const model::Model model = model::Model::load(scratch / "m.gguf", model::Dtype::f32);
  std::mt19937 random(5);
  std::vector<int32_t> ids(200);
  for (auto& id : ids) id = int32_t(random() % 288);

  // Random schedules that share beginnings.
  std::vector<evaluate::NamedPolicy> policies{{"streaming", decode::streaming_policy({0, 3, 3, 3, 3, 3})}};
  for (int i = 0; i < 28; ++i) {
    std::vector<config::LayerPlan> layers{full(), delta(5, 1), sparse(3 + i % 2)};
    if (i % 3) layers.push_back(delta(5, 1));
    while (layers.size() < 6) {
      const auto choice = random() % 4;
      layers.push_back(choice == 0 ? delta(5, 1) : choice == 1 ? full() : sparse(3 + int(random() % 2)));
    }
    const PageScore page_score = i % 5 == 4 ? PageScore::max : PageScore::sum;
    policies.push_back({"p" + std::to_string(i), policy_of(layers, page_score, i % 3 == 2 ? 6 : 1)});
  }
  std::vector<decode::Policy> only;
  for (const auto& p : policies) only.push_back(p.policy);
  int reused = 0;
  for (const auto& r : evaluate::plan_reuse(only, false)) reused += r.run >= 0;
  REQUIRE(reused > 5);

  const auto together = evaluate::evaluate(model, ids, 20, policies, {64, 0}, nullptr);
  for (size_t i = 0; i < policies.size(); ++i) {
    CAPTURE(policies[i].name);
    decode::KvCache cache(model, 1, 200);
    decode::Decoder decoder(model, cache, policies[i].policy);
    std::vector<float> nll;
    decode::replay(
        decoder, ids, 20,
        [&](int first, int n) {
          const int begin = std::max(first, 20), with_next = std::min(first + n, 199) - begin;
          if (with_next <= 0) return;
          const auto part = decode::nll_of(decoder.logits(begin - first, first + n - begin),
                                           std::span(ids).subspan(begin + 1, with_next));
          nll.insert(nll.end(), part.begin(), part.end());
        },
        64);
    const auto& found = together.policies[i].nll;
    REQUIRE(found.size() == nll.size() + 1);
    CHECK(std::equal(nll.begin(), nll.end(), found.begin()));
    long long attended = 0;
    for (const auto& layer : decoder.reads()) attended += layer.attended;
    CHECK(together.policies[i].attended == attended);
  }
}
