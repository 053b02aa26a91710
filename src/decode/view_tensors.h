// What a LayerView shows as LibTorch's tensors, where it lies: for rooms that use LibTorch.
#pragma once
#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "decode/decoder.h"

namespace deltacal::decode {

// Valid during the call that the view is given to.
const at::Tensor& hidden_of(const LayerView&);  // [n_rows, E] f32

// Some rows' queries after rotary embedding in host memory, [n, H, d] f32. rows [n]: indices into the view.
std::vector<float> rows_of_q(const LayerView&, std::span<const int> rows);

}  // namespace deltacal::decode
