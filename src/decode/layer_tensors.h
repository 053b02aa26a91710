// What a LayerView shows, where it lies; what the call it is made for does not show is undefined. Included
// only by src/decode/*.cpp.
#pragma once
#include <ATen/core/Tensor.h>

#include "decode/engine.h"

namespace deltacal::decode {

struct LayerTensors {
  Engine* engine = nullptr;
  at::Tensor hidden;  // [n_rows, E]
  at::Tensor q;       // [n_rows, H d] after rotary embedding
  at::Tensor query;   // the same before it, f32 in host memory; may be undefined
  at::Tensor list;    // [n_rows, list_stride] int32; may be undefined
  at::Tensor out;     // [n_rows, H d] of attention
  at::Tensor gate_up = {};  // [n_rows, 2 F] of Observer::feed_forward()
  // Copies in host memory, once asked for.
  mutable at::Tensor host_hidden = {}, host_q = {}, host_list = {};
};

}  // namespace deltacal::decode
