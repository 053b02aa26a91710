// CUPTI's one subscriber a process: held by a session while it lasts.
#pragma once
#include <cupti.h>

#include <string>

namespace deltacal::gpu_trace {

std::string text_of(CUptiResult);

class Subscription {
 public:
  Subscription() = default;
  ~Subscription() { end(); }
  Subscription(const Subscription&) = delete;
  Subscription& operator=(const Subscription&) = delete;

  // bad_input, begun with `what`, without a CUDA device; failure if another profiler holds CUPTI, which is
  // named. `callback` is called with `state`.
  void begin(const char* what, CUpti_CallbackFunc callback, void* state);
  void end() noexcept;
  CUpti_SubscriberHandle handle() const { return handle_; }

 private:
  CUpti_SubscriberHandle handle_ = nullptr;
};

}  // namespace deltacal::gpu_trace
