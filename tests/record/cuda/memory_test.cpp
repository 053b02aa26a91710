#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include "decode/batch.h"
#include "record/record.h"
#include "support/device.h"
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

text::TokenizedSample sample_of(const model::Model& model, int n_tokens, int n_prompt_tokens) {
  text::TokenizedSample sample;
  sample.id = sample.problem = "s";
  sample.ids = test::random_ids(model, n_tokens);
  sample.n_prompt_tokens = n_prompt_tokens;
  return sample;
}

template <class Record>
void to_trace(const model::Model& model, const Record& record) {
  const test::Scratch scratch;
  trace::Writer writer(scratch / "t.h5", trace::Writer::Start::fresh, model.info(), {"test", 0},
                       nlohmann::json::object());
  record(writer);
  writer.finish();
}

// As `profile` reckons.
decode::PrefillNeed need_of(const model::Model& model, int n_tokens, const RecordOptions& options) {
  decode::PrefillNeed need;
  need.n_positions = n_tokens;
  need.n_maps = 2 + (options.group_mass ? model.info().n_kv_heads : 0);
  if (options.sensitivity)
    sensitivity::Sensitivity::set_need(need, model.description(), options.sensitivity->loss);
  return need;
}

void check_replay(const model::Model& model, int n_tokens, const RecordOptions& options,
                  size_t room_for_activations = 0) {
  const decode::StepMemory need = prefill_memory(model.description(), need_of(model, n_tokens, options));
  const size_t reckoned = need.cache + need.buffers + room_for_activations;
  const test::OtherMemory other(need.total() + room_for_activations);
  if (!other.fits()) SKIP("too little device memory");
  const test::TakenMemory taken;
  CAPTURE(model.info().name, n_tokens, room_for_activations / mib, reckoned / mib);
  CHECK_NOTHROW(to_trace(model, [&](trace::Writer& writer) {
    record_replay(model, sample_of(model, n_tokens, 0), options, writer, 0, nullptr);
  }));
  CAPTURE(taken.most() / mib);
  CHECK(taken.most() <= reckoned + small_things);
  // Activations may need less than there is room for.
  if (room_for_activations == 0) CHECK(reckoned <= taken.most() + taken.most() / 2 + small_things);
}

TEST_CASE("device memory, CUDA: a replay takes what is reckoned, and runs where no more is there",
          "[all of the device]") {
  NEEDS_DEVICE;
  RecordOptions heads, every_step = with_sensitivity(8), refreshed = with_sensitivity(2);
  heads.group_mass = true;
  every_step.steps.kind = StepChoice::Kind::all;
  refreshed.sensitivity->rankings = {{.refresh_interval = 4}, {.refresh_below = 0.8}};
  for (const char* shape : {"qwen2.5-7b", "qwen2.5-1.5b", "llama3-8b"}) {
    const model::Model model = test::four_layers(shape);
    for (const int n_tokens : {32768, 20000, 3000}) check_replay(model, n_tokens, {});
    check_replay(model, 20000, heads);
    check_replay(model, 3000, refreshed);
    check_replay(model, 300, with_sensitivity(2));
    for (const size_t room : {size_t{0}, 1024 * mib, 4096 * mib}) {
      check_replay(model, 32768, with_sensitivity(2), room);
      check_replay(model, 20000, with_sensitivity(0), room);
      check_replay(model, 20000, with_sensitivity(8), room);
      check_replay(model, 3000, with_sensitivity(2), room);
    }
  }
  check_replay(test::four_layers("qwen2.5-7b"), 2000, every_step);
}

// As `profile --mode decode --sensitivity`: a batch decodes and is recorded; the pass behind it replays what
// has ended beside the batch's cache and graphs.
TEST_CASE("device memory, CUDA: a batch that is recorded, and passes beside it, run in what is reckoned",
          "[all of the device]") {
  NEEDS_DEVICE;
  constexpr int n_prompt = 3000, n_new = 40, n_rows = 6, longest = n_prompt + n_new;
  const model::Model model = test::four_layers("qwen2.5-7b");
  const RecordOptions passes = with_sensitivity(2);
  const decode::StepMemory replayed = prefill_memory(model.description(), need_of(model, longest, passes)),
                           need = decode::step_memory(
                               model.description(), 0, n_rows, longest,
                               {.draws = true,
                                .records = true,
                                .group_mass = true,
                                .besides = replayed.cache + replayed.buffers +
                                           decode::bytes_kept_for_logits(model.description(), longest)});
  const size_t reckoned = need.cache + need.buffers;
  const std::vector<int32_t> prompt = test::random_ids(model, n_prompt);
  const std::vector<decode::BatchSequence> sequences(8, {prompt, n_new, {1, 0, 1, 3}});
  decode::BatchCallbacks on;
  on.prompt_nll = [](int, int, std::span<const float>) {};
  on.records = [](int, int position) { return position % 2 == 0; };
  on.maps = [](std::span<const decode::RecordedRow>, const decode::StepMaps&) {};
  int n_passes = 0;
  on.finished = [&](int sequence) {
    if (sequence % 3 != 0) return;
    to_trace(model, [&](trace::Writer& writer) {
      record_replay(model, sample_of(model, longest, n_prompt), passes, writer, 0, nullptr);
    });
    ++n_passes;
  };
  decode::BatchOptions options;
  options.n_rows = n_rows;
  options.group_mass = true;
  const test::OtherMemory other(need.total());
  if (!other.fits()) SKIP("too little device memory");
  const test::TakenMemory taken;
  CAPTURE(reckoned / mib);
  CHECK_NOTHROW(decode_batch(model, decode::full_policy(4), sequences, options, on));
  CHECK(n_passes == 3);
  CAPTURE(taken.most() / mib);
  CHECK(taken.most() <= reckoned + small_things);
  CHECK(reckoned <= taken.most() + taken.most() / 2 + small_things);
}

}  // namespace
}  // namespace deltacal::record
