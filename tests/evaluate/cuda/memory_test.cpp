#include <catch2/catch_test_macros.hpp>

#include "evaluate/evaluate.h"
#include "support/device_memory.h"

namespace deltacal::evaluate {
namespace {

using decode::Attend;
using test::mib, test::small_things;

// Δ-layer 1 and two layers on its lists of k pages.
NamedPolicy delta(int k_pages) {
  decode::Policy policy = decode::full_policy(4);
  policy.layers[1] = {Attend::all_rank, k_pages, 4};
  policy.layers[2] = policy.layers[3] = {Attend::list, k_pages, 0};
  return {"delta", policy};
}

TEST_CASE("device memory, CUDA: policies evaluated together take what is reckoned, and run in it",
          "[all of the device]") {
  if (model::choose_device("auto") != model::Device::cuda) SKIP("no CUDA device");
  for (const char* shape : {"qwen2.5-7b", "qwen2.5-1.5b"}) {
    const model::Model model = test::few_layers(shape, 4);
    for (const int n_tokens : {20000, 3000})
      for (const int n_policies : {1, 4}) {
        std::vector<NamedPolicy> policies;
        for (int i = 0; i < n_policies; ++i) policies.push_back(delta(16 + 16 * i));
        const decode::StepMemory need =
            prefill_memory(model.description(), device_need(model.description(), n_policies, n_tokens));
        const size_t reckoned = need.cache + need.buffers;
        const test::OtherMemory other(need.total());
        const test::TakenMemory taken;
        CAPTURE(shape, n_tokens, n_policies, reckoned / mib);
        CHECK_NOTHROW(evaluate(model, test::random_ids(model, n_tokens), 100, policies, {}, nullptr));
        CAPTURE(taken.most() / mib);
        CHECK(taken.most() <= reckoned + small_things);
        CHECK(reckoned <= taken.most() + taken.most() / 2 + small_things);
      }
  }
}

}  // namespace
}  // namespace deltacal::evaluate
