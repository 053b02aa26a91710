// Whether tests that run a model on a CUDA device have one.
#pragma once
#include <catch2/catch_test_macros.hpp>

#include "model/device.h"

namespace deltacal::test {

// choose_device("auto") refuses nothing: without a device it is the CPU.
inline bool has_device() {
  return model::choose_device("auto") == model::Device::cuda;
}

// First line of every test that runs on it.
#define NEEDS_DEVICE \
  if (!deltacal::test::has_device()) SKIP("no CUDA device")

}  // namespace deltacal::test
