#include <cuda_runtime_api.h>

#include "core/error.h"
#include "gpu_trace/subscription.h"

namespace deltacal::gpu_trace {

std::string text_of(CUptiResult result) {
  const char* text = nullptr;
  return cuptiGetResultString(result, &text) == CUPTI_SUCCESS && text ? text
                                                                      : fmt::format("error {}", int(result));
}

void Subscription::begin(const char* what, CUpti_CallbackFunc callback, void* state) {
  int n = 0;
  if (cudaGetDeviceCount(&n) != cudaSuccess || n == 0) throw bad_input("{}: there is no CUDA device", what);
  char other[CUPTI_OLD_SUBSCRIBER_NAME_MIN_LEN] = "";
  CUpti_SubscriberParams params{};
  params.structSize = CUpti_SubscriberParams_STRUCT_SIZE;
  params.subscriberName = "deltacal";
  params.oldSubscriberName = other, params.oldSubscriberSize = sizeof other;
  const CUptiResult result = cuptiSubscribe_v2(&handle_, callback, state, &params);
  if (result == CUPTI_SUCCESS) return;
  handle_ = nullptr;
  if (result == CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED)
    throw failure(
        "{}: another profiler is active in this process: {}. CUPTI serves one at a time; run without it "
        "(PyTorch's Kineto, Nsight, a debugger), or without this one.",
        what, other[0] ? other : "its name is not known");
  if (result == CUPTI_ERROR_UNKNOWN) throw bad_input("{}: there is no CUDA device that CUPTI can use", what);
  throw failure("{}: cuptiSubscribe fails with {}", what, text_of(result));
}

void Subscription::end() noexcept {
  if (handle_) cuptiUnsubscribe(handle_);
  handle_ = nullptr;
}

}  // namespace deltacal::gpu_trace
