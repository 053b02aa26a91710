#include <catch2/catch_test_macros.hpp>
#include <exception>
#include <thread>

#include "evaluate/evaluate.h"
#include "support/device.h"
#include "support/device_memory.h"

namespace deltacal::evaluate {
namespace {

using test::mib, test::small_things;

// The same sample in `n_threads` at one time; what one of them throws.
void evaluate_together(const model::Model& model, int n_tokens, int n_policies, int n_threads) {
  std::vector<NamedPolicy> policies;
  for (int i = 0; i < n_policies; ++i) policies.push_back({"delta", test::delta_of_four(16 + 16 * i)});
  const std::vector<int32_t> ids = test::random_ids(model, n_tokens);
  std::vector<std::exception_ptr> failed(static_cast<size_t>(n_threads));
  std::vector<std::thread> threads;
  for (std::exception_ptr& failure : failed)
    threads.emplace_back([&] {
      try {
        evaluate(model, ids, 100, policies, {}, nullptr);
      } catch (...) {
        failure = std::current_exception();
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& failure : failed)
    if (failure) std::rethrow_exception(failure);
}

TEST_CASE("device memory, CUDA: policies evaluated together take what is reckoned, and run in it",
          "[all of the device]") {
  NEEDS_DEVICE;
  struct Case {
    int n_tokens, n_policies, n_threads;
  };
  int n_run = 0;
  for (const char* shape : {"qwen2.5-7b", "qwen2.5-1.5b"}) {
    const model::Model model = test::four_layers(shape);
    // 14,400: a cache's arrays of 7 MiB lie two by two in pieces of 20 (the 1.5B shape).
    for (const auto& [n_tokens, n_policies, n_threads] :
         {Case{20000, 1, 1}, {20000, 4, 1}, {3000, 1, 1}, {300, 2, 1}, {14400, 12, 2}, {3000, 3, 2}}) {
      const decode::StepMemory need =
          prefill_memory(model.description(), device_need(model.description(), n_policies, n_tokens));
      const size_t of_one = need.cache + need.buffers, reckoned = of_one * size_t(n_threads);
      const test::OtherMemory other(need.total() + reckoned - of_one);
      if (!other.fits()) continue;
      ++n_run;
      const test::TakenMemory taken;
      CAPTURE(shape, n_tokens, n_policies, n_threads, reckoned / mib);
      CHECK_NOTHROW(evaluate_together(model, n_tokens, n_policies, n_threads));
      CAPTURE(taken.most() / mib);
      CHECK(taken.most() <= reckoned + small_things);
      if (n_threads == 1) CHECK(reckoned <= taken.most() + taken.most() / 2 + small_things);
    }
  }
  if (n_run == 0) SKIP("too little device memory");
}

}  // namespace
}  // namespace deltacal::evaluate
