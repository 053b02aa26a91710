// Inside of Logits. Included only by src/decode/*.cpp.
#pragma once
#include <ATen/core/Tensor.h>

#include "decode/logits.h"

namespace deltacal::decode {

// -log p(target), [n] f32 nats. logits [n, V] f32, target [n] in host memory.
at::Tensor nll_tensor(const at::Tensor& logits, std::span<const int32_t> target);

struct Logits::Impl {
  at::Tensor values;  // [n_rows, V] f32: bf16 would add about 4e-4 nats of noise to a KL
  at::Tensor host;    // their copy in host memory, once asked for
};

}  // namespace deltacal::decode
