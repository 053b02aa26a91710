// The CUDA kernel of page values, thread by thread on a CPU.
#include "replay_cases.h"
// After the headers above: this one redefines CUDA's words.
#include "emulated_instructions.h"
#include "kernels/page_value/cuda.cu"

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

TEST_CASE("page value, CUDA emulated: every dimension, row and key is where it belongs") {
  in_both_orders([](Backend& b) {
    for (const int head_dim : {64, 96, 128, 256}) values_meet_their_dimensions(b, Type::bf16, head_dim);
    values_meet_their_dimensions(b, Type::f16, 64);
  });
}

TEST_CASE("page value, CUDA emulated: equals the reference") {
  in_both_orders([](Backend& b) {
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

TEST_CASE("page value, CUDA emulated: g.(o~ - o) is as exact as in float, also for tiny gradients in f16") {
  HostBackend host;
  Replay r({Type::bf16, 64, 1, 3, 300}, {299, 250}, 7);
  REQUIRE(error_of_differences(host, r) < 3e-5);
  Replay tiny({Type::f16, 64, 1, 3, 300}, {299, 250}, 8);
  for (float& x : tiny.gradient) x *= 1e-7f;
  REQUIRE(error_of_differences(host, tiny) < 3e-5);
}

}  // namespace
}  // namespace deltacal::kernels
