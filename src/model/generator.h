// Random numbers of LibTorch on a device, from a seed of one's own. Included only where LibTorch is used.
#pragma once
#include <ATen/core/Generator.h>

#include <cstdint>

#include "model/device.h"

namespace deltacal::model {

at::Generator generator_on(Device, uint64_t seed);

}  // namespace deltacal::model
