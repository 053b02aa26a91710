// Inside of HiddenStates. Included only by src/sensitivity/*.cpp.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "sensitivity/hidden_states.h"

namespace deltacal::sensitivity {

struct HiddenStates::Impl {
  std::vector<at::Tensor> layers;  // [N] of [T, E] f32
};

}  // namespace deltacal::sensitivity
