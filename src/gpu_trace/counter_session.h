// Counts what kernels read and write, through CUPTI's range profiler. Kernels run one after the other while
// it lasts: what it finds is bytes and times of single kernels, not of a run.
#pragma once
#include <memory>
#include <string_view>

#include "gpu_trace/counters.h"
#include "gpu_trace/session.h"

namespace deltacal::gpu_trace {

class CounterSession : public Session {
 public:
  // Starts: every kernel that is launched by itself from here on is counted (a graph's are not told apart).
  // Throws Error where the build has no CUDA or no device is there; where another profiler holds CUPTI, which
  // is named; where the device has no counters or the driver keeps them from this user.
  CounterSession();
  ~CounterSession() override;
  CounterSession(const CounterSession&) = delete;
  CounterSession& operator=(const CounterSession&) = delete;

  // Waits for the device and ends. Throws if CUPTI fails, and at a second call. No scope is open.
  Counters finish();

 private:
  void enter(int layer, std::string_view phase) override;
  void leave() override;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace deltacal::gpu_trace
