#include <catch2/catch_test_macros.hpp>

#include "decode/step_graph.h"
#include "decode/step_memory.h"
#include "device.h"
#include "support/device_memory.h"

namespace deltacal::decode {
namespace {

using test::mib, test::small_things;

// Full attention where maps are recorded; else a Δ-layer and two on its lists.
Policy policy_of(bool records) {
  Policy policy = full_policy(4);
  if (records) return policy;
  policy.layers[1] = {Attend::all_rank, 32, 4};
  policy.layers[2] = policy.layers[3] = {Attend::list, 32, 0};
  return policy;
}

TEST_CASE("device memory, CUDA: steps of a batch take what is reckoned, or little less",
          "[all of the device]") {
  NEEDS_DEVICE;
  for (const char* shape : {"qwen2.5-7b", "qwen2.5-1.5b"}) {
    const model::Model model = test::few_layers(shape, 4);
    for (const auto& [rows, context] : {std::pair{64, 8192}, {16, 32768}, {300, 1024}})
      for (const bool records : {false, true})
        for (const bool draws : {false, true}) {
          const StepMemory need =
              step_memory(model.description(), 0, rows, context, {.draws = draws, .records = records});
          const size_t reckoned = need.cache + need.buffers;
          const test::OtherMemory other(need.total());
          const test::TakenMemory taken;
          {
            KvCache cache(model, rows, context);
            cache.fill_random(1);
            StepGraph graph(model, cache, policy_of(records), rows, StepGraph::Part::step, nullptr,
                            records ? StepGraph::Maps::layers : StepGraph::Maps::none);
            const std::vector<int32_t> token(size_t(rows), 7), position(size_t(rows), context - 1);
            for (int i = 0; i < 2; ++i) {
              graph.run(token, position, records);
              if (draws)
                draw(graph.logits(), std::vector<Draw>(size_t(rows), {{0.6f, 0, 0.95f, 1}, 0.5}));
              else
                most_likely(graph.logits());
            }
            if (records) graph.take_maps();
          }
          CAPTURE(shape, rows, context, records, draws, taken.most() / mib, reckoned / mib);
          CHECK(taken.most() <= reckoned + small_things);
          CHECK(reckoned <= taken.most() + taken.most() / 5 + small_things);
        }
  }
}

}  // namespace
}  // namespace deltacal::decode
