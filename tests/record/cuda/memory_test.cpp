#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include "record/record.h"
#include "support/device_memory.h"
#include "support/scratch.h"

namespace deltacal::record {
namespace {

using test::mib, test::small_things;

RecordOptions with_sensitivity(int draws) {
  RecordOptions options;
  options.sensitivity = sensitivity::Options{{{64, 8}, {16, 4}}, {draws, 7}};
  return options;
}

void replay_to_trace(const model::Model& model, int n_tokens, const RecordOptions& options) {
  const test::Scratch scratch;
  text::TokenizedSample sample;
  sample.id = sample.problem = "s";
  sample.ids = test::random_ids(model, n_tokens);
  trace::Writer writer(scratch / "t.h5", trace::Writer::Start::fresh, model.info(), {"test", 0},
                       nlohmann::json::object());
  record_replay(model, sample, options, writer, 0, nullptr);
  writer.finish();
}

TEST_CASE("device memory, CUDA: a replay takes what is reckoned, and runs where no more is there",
          "[all of the device]") {
  if (model::choose_device("auto") != model::Device::cuda) SKIP("no CUDA device");
  for (const char* shape : {"qwen2.5-7b", "qwen2.5-1.5b", "llama3-8b"}) {
    const model::Model model = test::few_layers(shape, 4);
    const auto run = [&](int n_tokens, const RecordOptions& options, size_t room_for_activations) {
      decode::PrefillNeed need;
      need.n_positions = n_tokens;
      need.n_maps = 2;
      if (options.sensitivity)
        sensitivity::Sensitivity::add_need(need, model.description(), options.sensitivity->loss);
      const decode::StepMemory reckoned = prefill_memory(model.description(), need);
      const size_t counted = reckoned.cache + reckoned.buffers + room_for_activations;

      const test::OtherMemory other(reckoned.total() + room_for_activations);
      const test::TakenMemory taken;
      CAPTURE(shape, n_tokens, room_for_activations / mib, counted / mib);
      CHECK_NOTHROW(replay_to_trace(model, n_tokens, options));
      CAPTURE(taken.most() / mib);
      CHECK(taken.most() <= counted + small_things);
      // Activations may need less than there is room for.
      if (room_for_activations == 0) CHECK(counted <= taken.most() + taken.most() / 2 + small_things);
    };
    for (const int n_tokens : {32768, 20000, 3000}) run(n_tokens, {}, 0);
    for (const size_t room : {size_t{0}, 1024 * mib, 4096 * mib}) {
      run(32768, with_sensitivity(2), room);
      run(20000, with_sensitivity(0), room);
      run(20000, with_sensitivity(8), room);
      run(3000, with_sensitivity(2), room);
    }
  }
}

}  // namespace
}  // namespace deltacal::record
