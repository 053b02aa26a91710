// What every kind of session refuses, and how.
#pragma once
#include <cupti.h>

#include <catch2/catch_test_macros.hpp>
#include <string>

#include "core/error.h"
#include "kernels/cuda/launch.h"

namespace deltacal::gpu_trace {

template <class Session>
void require_refused_without_device() {
  if (kernels::cuda::device_count() > 0) SKIP("there is a device");
  try {
    Session session;
    FAIL("it started");
  } catch (const Error& e) {
    REQUIRE(e.status() == Status::bad_input);
    REQUIRE(std::string(e.what()).find("no CUDA device") != std::string::npos);
  }
}

// While another profiler has CUPTI.
template <class Session>
void require_other_profiler_named() {
  if (kernels::cuda::device_count() == 0) SKIP("no CUDA device");
  CUpti_SubscriberParams params{};
  params.structSize = CUpti_SubscriberParams_STRUCT_SIZE;
  params.subscriberName = "rival";
  const auto nothing = [](void*, CUpti_CallbackDomain, CUpti_CallbackId, const void*) {};
  CUpti_SubscriberHandle rival;
  REQUIRE(cuptiSubscribe_v2(&rival, nothing, nullptr, &params) == CUPTI_SUCCESS);
  try {
    Session session;
    FAIL("it started");
  } catch (const Error& e) {
    INFO(e.what());
    CHECK(e.status() == Status::failure);
    CHECK(std::string(e.what()).find("rival") != std::string::npos);
  }
  REQUIRE(cuptiUnsubscribe(rival) == CUPTI_SUCCESS);
}

}  // namespace deltacal::gpu_trace
