// What a LayerView shows as LibTorch's tensors, where it lies: for rooms that use LibTorch.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <span>
#include <vector>

#include "decode/decoder.h"

namespace deltacal::decode {

// Valid during the call that the view is given to. Of Observer::layer():
const at::Tensor& hidden_of(const LayerView&);     // [n_rows, E] f32
const at::Tensor& q_of(const LayerView&);          // [n_rows, H d] after rotary embedding
const at::Tensor& attention_of(const LayerView&);  // [n_rows, H d] outputs of the heads
at::Tensor log_sum_exp_of(const LayerView&);       // [n_rows, H] as Engine's log_sum_exp() (engine.h)
// Of Observer::feed_forward(); stays as it is.
const at::Tensor& gate_up_of(const LayerView&);  // [n_rows, 2 F] what the gate is given

// Rows on their way to host memory, [n, width] f32: waits for them. To be called once.
using TakeRows = std::function<std::vector<float>()>;
// Begins to bring some rows of q_of(), or of log_sum_exp_of() where that is defined. rows [n]: indices into
// the view. On a CUDA device the host goes on meanwhile.
TakeRows begin_rows_of_q(const LayerView&, std::span<const int> rows);
TakeRows begin_rows_of_log_sum_exp(const LayerView&, std::span<const int> rows);

}  // namespace deltacal::decode
