// The CUDA kernels of recording and of the sensitivity pass, thread by thread on a CPU.
#include "replay_cases.h"
// After the headers above: this one redefines CUDA's words.
#include "emulated_instructions.h"
#include "kernels/record_scores/kernel.cuh"
#include "kernels/record_values/kernel.cuh"

namespace deltacal::kernels {
namespace {

// Host memory, a fiber for each thread.
class Emulated : public Backend {
 public:
  const void* in(const void* host, size_t) override { return host; }
  float* out(std::vector<float>& host) override { return host.data(); }
  void run(const cuda::record_scores::Params& p) override { emulate(p); }
  void run(const cuda::record_values::Params& p) override { emulate(p); }
  void finish() override {}

 private:
  template <class Params>
  static void emulate(const Params& p) {
    check(p);
    cuda::emulate(kernel_of(p), grid_of(p), cuda::row_tile::n_threads, p);
  }
};

// In either order of a block's threads.
template <class Body>
void in_both_orders(const Body& body) {
  for (const bool reversed : {false, true}) {
    emulator::reversed = reversed;
    CAPTURE(reversed);
    Emulated backend;
    body(backend);
  }
  emulator::reversed = false;
}

TEST_CASE("record scores, emulated: every dimension, row and key is where it belongs") {
  in_both_orders([](Emulated& b) {
    for (const int head_dim : {64, 96, 128, 256}) scores_meet_their_dimensions(b, Type::bf16, head_dim);
    scores_meet_their_dimensions(b, Type::f16, 64);
  });
}

TEST_CASE("record scores, emulated: equals the reference") {
  in_both_orders([](Emulated& b) {
    Replay many({Type::bf16, 64, 1, 9, 275}, {0, 1, 15, 16, 17, 31, 32, 100, 140, 160, 255, 256, 257, 272, 273, 274, 7, 130, 274}, 1);
    scores_equal_reference(b, many);
    Replay grouped({Type::f16, 96, 2, 7, 40}, {39, 3, 20}, 2);
    scores_equal_reference(b, grouped, {Page::max, weights_of(14), true, true});
    Replay wide({Type::bf16, 256, 2, 5, 150}, {149, 0, 128}, 3);
    scores_equal_reference(b, wide, {Page::sum, weights_of(10), true, false});
    Replay usual({Type::bf16, 128, 2, 2, 70}, {69, 60}, 4);
    scores_equal_reference(b, usual, {Page::max, {}, true, true});
  });
}

TEST_CASE("record scores, emulated: exchanged heads and groups give the same bits") {
  in_both_orders([](Emulated& b) { exchanged_heads_score_alike(b, 90); });
}

TEST_CASE("record values, emulated: every dimension, row and key is where it belongs") {
  in_both_orders([](Emulated& b) {
    for (const int head_dim : {64, 96, 128, 256}) values_meet_their_dimensions(b, Type::bf16, head_dim);
    values_meet_their_dimensions(b, Type::f16, 64);
  });
}

TEST_CASE("record values, emulated: equals the reference") {
  in_both_orders([](Emulated& b) {
    Replay many({Type::bf16, 64, 1, 5, 140}, {0, 1, 15, 16, 17, 31, 32, 100, 139, 138, 127, 128, 129, 130, 131, 137, 7, 120, 139}, 1, 2);
    values_equal_reference(b, many);
    Replay grouped({Type::f16, 96, 2, 7, 40}, {39, 3, 20}, 2);
    values_equal_reference(b, grouped, true);
    Replay wide({Type::bf16, 256, 2, 2, 50}, {49, 0, 33}, 3);
    values_equal_reference(b, wide);
    Replay usual({Type::bf16, 128, 2, 4, 70}, {69, 60}, 4, 2);
    values_equal_reference(b, usual, true);
  });
}

TEST_CASE("record values, emulated: g.(o~ - o) is as exact as in float, also for tiny gradients in f16") {
  Emulated host;
  Replay r({Type::bf16, 64, 1, 3, 300}, {299, 250}, 7);
  REQUIRE(error_of_differences(host, r) < 3e-5);
  Replay tiny({Type::f16, 64, 1, 3, 300}, {299, 250}, 8);
  for (float& x : tiny.gradient) x *= 1e-7f;
  REQUIRE(error_of_differences(host, tiny) < 3e-5);
}

TEST_CASE("record, emulated: bad numbers stay in their rows") {
  in_both_orders([](Emulated& b) { bad_numbers_stay_in_their_rows(b, 64); });
}

}  // namespace
}  // namespace deltacal::kernels
