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

// False: the device has too little memory.
bool check_replay(const model::Model& model, int n_tokens, const RecordOptions& options,
                  size_t room_for_activations = 0) {
  const decode::StepMemory need =
      prefill_memory(model.description(), device_need(model.description(), n_tokens, options));
  const size_t reckoned = need.cache + need.buffers + room_for_activations;
  const test::OtherMemory other(need.total() + room_for_activations);
  if (!other.fits()) return false;
  const test::TakenMemory taken;
  CAPTURE(model.info().name, n_tokens, room_for_activations / mib, reckoned / mib);
  CHECK_NOTHROW(to_trace(model, [&](trace::Writer& writer) {
    record_replay(model, sample_of(model, n_tokens, 0), options, writer, 0, nullptr);
  }));
  CAPTURE(taken.most() / mib);
  CHECK(taken.most() <= reckoned + small_things);
  // Activations may need less than there is room for.
  if (room_for_activations == 0) CHECK(reckoned <= taken.most() + taken.most() / 2 + small_things);
  return true;
}

TEST_CASE("device memory, CUDA: a replay takes what is reckoned, and runs where no more is there",
          "[all of the device]") {
  NEEDS_DEVICE;
  RecordOptions heads, every_step = with_sensitivity(8), refreshed = with_sensitivity(2);
  heads.group_mass = true;
  every_step.steps.kind = StepChoice::Kind::all;
  refreshed.sensitivity->rankings = {{.refresh_interval = 4}, {.refresh_below = 0.8}};
  int n_run = 0;
  for (const char* shape : {"qwen2.5-7b", "qwen2.5-1.5b", "llama3-8b"}) {
    const model::Model model = test::four_layers(shape);
    for (const int n_tokens : {32768, 20000, 3000}) n_run += check_replay(model, n_tokens, {});
    n_run += check_replay(model, 20000, heads);
    n_run += check_replay(model, 3000, refreshed);
    n_run += check_replay(model, 300, with_sensitivity(2));
    for (const size_t room : {size_t{0}, 1024 * mib, 4096 * mib}) {
      n_run += check_replay(model, 32768, with_sensitivity(2), room);
      n_run += check_replay(model, 20000, with_sensitivity(0), room);
      n_run += check_replay(model, 20000, with_sensitivity(8), room);
      n_run += check_replay(model, 3000, with_sensitivity(2), room);
    }
  }
  n_run += check_replay(test::four_layers("qwen2.5-7b"), 2000, every_step);
  if (n_run == 0) SKIP("too little device memory");
}

// As `profile --mode decode --sensitivity`, for which a model needs a tokenizer: a batch decodes and is
// recorded, and beside it passes replay what has ended.
TEST_CASE("device memory, CUDA: a batch that is recorded, and passes beside it, run in what is reckoned",
          "[all of the device]") {
  NEEDS_DEVICE;
  constexpr int longest_prompt = 3000, n_new = 40, longest = longest_prompt + n_new;
  const model::Model model = test::four_layers("qwen2.5-7b");
  RecordOptions passes = with_sensitivity(2);
  passes.group_mass = true;
  decode::BatchOptions options;
  options.n_rows = 6;
  options.group_mass = true;
  const decode::SamplingOptions sampling{.temperature = 1, .seed = 3};
  DecodeOptions decoding;
  decoding.sampling = sampling;
  const decode::StepMemory need =
      decode::step_memory(model.description(), 0, options.n_rows, longest,
                          device_use(model.description(), longest, passes, decoding));
  const size_t reckoned = need.cache + need.buffers;
  const std::vector<int32_t> prompt = test::random_ids(model, longest_prompt);
  std::vector<decode::BatchSequence> sequences;
  for (int i = 1; i <= 8; ++i)  // ascending: what a prompt leaves grows
    sequences.push_back({std::span(prompt).first(size_t(longest_prompt / 8 * i)), n_new, sampling});
  decode::BatchCallbacks on;
  on.prompt_nll = [](int, int, std::span<const float>) {};
  on.records = [](int, int position) { return position % 2 == 0; };
  on.maps = [](std::span<const decode::RecordedRow>, const decode::StepMaps&) {};
  int n_passes = 0;
  on.finished = [&](int sequence) {
    if (sequence % 3 != 1) return;
    to_trace(model, [&](trace::Writer& writer) {
      record_replay(model, sample_of(model, longest, longest_prompt), passes, writer, 0, nullptr);
    });
    ++n_passes;
  };
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
