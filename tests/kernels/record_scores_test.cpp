// The CUDA kernel of page scores, thread by thread on a CPU.
#include "replay_cases.h"
// After the headers above: this one redefines CUDA's words.
#include "emulated_instructions.h"
#include "kernels/page_score/cuda.cu"

namespace deltacal::kernels {
namespace {

// In either order of a block's threads.
template <class Body>
void in_both_orders(const Body& body) {
  for (const bool reversed : {false, true}) {
    emulator::reversed = reversed;
    HostBackend host;
    CAPTURE(reversed);
    body(host);
  }
  emulator::reversed = false;
}

TEST_CASE("page score, CUDA emulated: every dimension, row and key is where it belongs") {
  in_both_orders([](Backend& b) {
    for (const int head_dim : {64, 96, 128, 256}) scores_meet_their_dimensions(b, Type::bf16, head_dim);
    scores_meet_their_dimensions(b, Type::f16, 64);
  });
}

TEST_CASE("page score, CUDA emulated: equals the reference") {
  in_both_orders([](Backend& b) {
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

TEST_CASE("page score, CUDA emulated: bad numbers stay in their rows") {
  in_both_orders([](Backend& b) {
    Replay r({Type::bf16, 64, 1, 1, 20}, {19}, 6);
    r.prepare();
    r.lse[0] = std::numeric_limits<float>::quiet_NaN();
    const Scores s = run_scores(b, r);
    REQUIRE(all_nan(s.score.data(), 2));
    REQUIRE(s.score[2] == 0);
  });
}

TEST_CASE("page score, CUDA emulated: exchanged heads and groups give the same bits") {
  in_both_orders([](Backend& b) { exchanged_heads_score_alike(b, 90); });
}

}  // namespace
}  // namespace deltacal::kernels
