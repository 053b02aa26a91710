// What is reckoned of a CUDA device's memory (decode/step_memory.h) against what LibTorch's allocator took,
// and whether what is said to suffice does.
#include "decode/step_memory.h"

#include <ATen/ATen.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>
#include <random>

#include "decode/device_info.h"
#include "decode/step_graph.h"
#include "model/shape.h"
#include "record/record.h"
#include "support/scratch.h"

namespace deltacal {
namespace {

constexpr size_t mib = size_t{1} << 20;
// LibTorch rounds each of its arrays up, and cuBLAS and the linear kernels have workspaces: not counted one
// by one, but by the margin of total(), which is 1 GiB.
constexpr size_t small_things = 160 * mib;

// Bytes of the allocator beyond those at the time it was made.
class Taken {
 public:
  Taken() {
    decode::wait_for_device();
    decode::give_back_unused_memory();
    allocator_.resetPeakStats(0);
    before_ = allocator_.getDeviceStats(0).allocated_bytes[0].current;
  }
  // In use at one time, at most.
  size_t most() const {
    decode::wait_for_device();
    return static_cast<size_t>(allocator_.getDeviceStats(0).allocated_bytes[0].peak - before_);
  }

 private:
  c10::DeviceAllocator& allocator_ = *c10::getDeviceAllocator(at::kCUDA);
  int64_t before_;
};

// Random weights of a known shape with fewer layers: what is held for a pass does not depend on them.
model::Model few_layers(const char* shape, int n_layers) {
  decode::give_back_unused_memory();  // or the weights would hold a piece of what something else had
  model::Description d = model::read_shape(shape).description;
  d.info.n_layers = n_layers;
  return model::Model::random(d, model::Dtype::bf16, model::Device::cuda, 5);
}

std::vector<int32_t> random_ids(const model::Model& model, int n) {
  std::mt19937 random(9);
  std::vector<int32_t> ids(static_cast<size_t>(n));
  for (auto& id : ids) id = static_cast<int32_t>(random() % unsigned(model.description().n_vocab));
  return ids;
}

void record(const model::Model& model, int n_tokens, const record::RecordOptions& options) {
  const test::Scratch scratch;
  text::TokenizedSample sample;
  sample.id = sample.problem = "s";
  sample.ids = random_ids(model, n_tokens);
  trace::Writer writer(scratch / "t.h5", trace::Writer::Start::fresh, model.info(), {"test", 0},
                       nlohmann::json::object());
  record::record_replay(model, sample, options, writer, 0, nullptr);
  writer.finish();
}

record::RecordOptions with_sensitivity(int draws) {
  record::RecordOptions options;
  options.sensitivity = sensitivity::Options{{{64, 8}, {16, 4}}, {draws, 7}};
  return options;
}

TEST_CASE("device memory, CUDA: steps of a batch, recorded ones too, take what is reckoned, or little less") {
  if (model::choose_device("auto") != model::Device::cuda) SKIP("no CUDA device");
  for (const char* shape : {"qwen2.5-7b", "qwen2.5-1.5b"}) {
    const model::Model model = few_layers(shape, 4);
    decode::Policy policy = decode::full_policy(4);
    const auto reckoned = [&](int rows, int context, bool records) {
      const decode::StepMemory need =
          decode::step_memory(model.description(), 0, rows, context, {false, records, false, 0});
      return need.cache + need.buffers;
    };
    for (const auto& [rows, context] : {std::pair{64, 8192}, {16, 32768}, {100, 1024}})
      for (const bool records : {false, true}) {
        for (int layer = 1; layer < 4; ++layer)
          policy.layers[size_t(layer)] = records      ? decode::LayerPolicy{decode::Attend::all, 0, 0}
                                         : layer == 1 ? decode::LayerPolicy{decode::Attend::all_rank, 32, 4}
                                                      : decode::LayerPolicy{decode::Attend::list, 32, 0};
        const Taken taken;
        {
          decode::KvCache cache(model, rows, context);
          cache.fill_random(1);
          decode::StepGraph graph(model, cache, policy, rows, decode::StepGraph::Part::step, nullptr,
                                  records ? decode::StepGraph::Maps::layers : decode::StepGraph::Maps::none);
          const std::vector<int32_t> token(size_t(rows), 7), position(size_t(rows), context - 1);
          for (int i = 0; i < 2; ++i) {
            graph.run(token, position, records);
            graph.logits();
          }
          if (records) graph.take_maps();
        }
        CAPTURE(shape, rows, context, records, taken.most() / mib, reckoned(rows, context, records) / mib);
        CHECK(taken.most() <= reckoned(rows, context, records) + small_things);
        CHECK(reckoned(rows, context, records) <= taken.most() + taken.most() / 10 + small_things);
      }
  }
}

TEST_CASE("device memory, CUDA: a replay takes what is reckoned, and runs where no more is there") {
  if (model::choose_device("auto") != model::Device::cuda) SKIP("no CUDA device");
  for (const char* shape : {"qwen2.5-7b", "qwen2.5-1.5b", "llama3-8b"}) {
    const model::Model model = few_layers(shape, 4);
    const auto run = [&](int n_tokens, const record::RecordOptions& options, size_t room_for_activations) {
      decode::PrefillNeed need;
      need.n_positions = n_tokens;
      need.n_maps = 2;
      if (options.sensitivity)
        sensitivity::Sensitivity::add_need(need, model.description(), options.sensitivity->loss);
      const decode::StepMemory reckoned = decode::prefill_memory(model.description(), need);
      const size_t counted = reckoned.cache + reckoned.buffers + room_for_activations;

      decode::give_back_unused_memory();
      const size_t free = decode::device_info().free_bytes, room = reckoned.total() + room_for_activations;
      CAPTURE(free / mib, room / mib);
      REQUIRE(free > room);
      const at::Tensor other =
          at::empty({int64_t(free - room)}, at::TensorOptions(at::kByte).device(at::kCUDA));
      const Taken taken;
      CAPTURE(shape, n_tokens, room_for_activations / mib, counted / mib);
      CHECK_NOTHROW(record(model, n_tokens, options));
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
}  // namespace deltacal
