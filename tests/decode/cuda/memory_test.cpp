#include <catch2/catch_test_macros.hpp>

#include "decode/step_graph.h"
#include "decode/step_memory.h"
#include "support/device.h"
#include "support/device_memory.h"

namespace deltacal::decode {
namespace {

using test::mib, test::small_things;
using Maps = StepGraph::Maps;

void run_steps(const model::Model& model, int rows, int context, Maps maps, bool draws) {
  KvCache cache(model, rows, context);
  cache.fill_random(1);
  const bool records = maps != Maps::none;
  StepGraph graph(model, cache, records ? full_policy(4) : test::delta_of_four(32), rows,
                  StepGraph::Part::step, nullptr, maps);
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

TEST_CASE("device memory, CUDA: steps of a batch take what is reckoned, or little less",
          "[all of the device]") {
  NEEDS_DEVICE;
  int n_run = 0;
  for (const char* shape : {"qwen2.5-7b", "qwen2.5-1.5b"}) {
    const model::Model model = test::four_layers(shape);
    for (const auto& [rows, context] : {std::pair{64, 8192}, {16, 32768}, {300, 1024}, {1, 32768}})
      for (const Maps maps : {Maps::none, Maps::layers, Maps::heads})
        for (const bool draws : {false, true}) {
          const StepMemory need =
              step_memory(model.description(), 0, rows, context,
                          {.draws = draws, .records = maps != Maps::none, .group_mass = maps == Maps::heads});
          const size_t reckoned = need.cache + need.buffers;
          const test::OtherMemory other(need.total());
          if (!other.fits()) continue;
          ++n_run;
          const test::TakenMemory taken;
          CAPTURE(shape, rows, context, int(maps), draws, reckoned / mib);
          CHECK_NOTHROW(run_steps(model, rows, context, maps, draws));
          CAPTURE(taken.most() / mib);
          CHECK(taken.most() <= reckoned + small_things);
          CHECK(reckoned <= taken.most() + taken.most() / 5 + small_things);
        }
  }
  if (n_run == 0) SKIP("too little device memory");
}

}  // namespace
}  // namespace deltacal::decode
