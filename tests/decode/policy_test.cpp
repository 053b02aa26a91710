#include "decode/policy.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "decode/step_graph.h"
#include "support/scratch.h"
#include "support/tiny_model.h"

namespace deltacal::decode {
namespace {

using Catch::Matchers::ContainsSubstring;
using config::Role;

TEST_CASE("step graph: a policy that needs the host within a step is refused by name") {
  config::Schedule schedule;
  schedule.layers = {{Role::full, 0, 0}, {Role::delta, 6, 2}, {Role::sparse, 5, 0}, {Role::sparse, 4, 0}};
  CHECK_NOTHROW(check_for_capture(delta_policy(schedule), 4));
  CHECK_NOTHROW(check_for_capture(full_policy(4), 4));
  CHECK_THROWS_WITH(check_for_capture(full_policy(3), 4), ContainsSubstring("3 layers, the model 4"));
  CHECK_THROWS_WITH(check_for_capture(streaming_policy({0, 4, 4, 4}), 4),
                    ContainsSubstring("layer 1 attends to a window"));
  config::Schedule several = schedule;
  several.refresh_interval = 4;
  CHECK_THROWS_WITH(check_for_capture(delta_policy(several), 4),
                    ContainsSubstring("lists that serve several steps"));
  several.refresh_interval = 1;
  several.refresh = config::AdaptiveRefresh{0.8, 16};
  CHECK_THROWS_WITH(check_for_capture(delta_policy(several), 4),
                    ContainsSubstring("lists that serve several steps"));
  CHECK(delta_policy(several).needs_host());
  CHECK(streaming_policy({0, 4, 4, 4}).needs_host());
  CHECK(!delta_policy(schedule).needs_host());
  Policy no_list = delta_policy(schedule);
  no_list.layers[1].attend = Attend::list;
  CHECK_THROWS_WITH(check_for_capture(no_list, 4), ContainsSubstring("no layer below it makes one"));
}

TEST_CASE("step graph: a model on the CPU is refused") {
  const test::Scratch scratch;
  test::write_tiny_model({}, scratch / "m.gguf");
  const model::Model model = model::Model::load(scratch / "m.gguf", model::Dtype::f32);
  KvCache cache(model, 2, 64);
  CHECK_THROWS_WITH(StepGraph(model, cache, full_policy(4), 2), ContainsSubstring("CUDA"));
}

}  // namespace
}  // namespace deltacal::decode
