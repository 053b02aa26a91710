// A model and its cache as the CUDA kernels take them, and what is between the linear layers. Included only
// by src/decode/*.cpp and src/sensitivity/*.cpp that are built with CUDA.
#pragma once
#include <ATen/core/Tensor.h>

#include "decode/kv_cache.h"
#include "kernels/append_kv/cuda.h"
#include "kernels/cuda/launch.h"
#include "model/model.h"

namespace deltacal::decode {

// bad_input for what has no kernel: the model's head dimension, or the device's compute capability.
void check_kernels_for(const ModelInfo&);

float attention_scale(const ModelInfo&);  // 1 / sqrt(head_dim)

// inverse_frequencies() of the model in the device's memory, [rotary_dim / 2].
at::Tensor frequencies_on_device(const model::Description&);

// page_table [n_sequences, max_pages] in the device's memory.
kernels::cuda::PagedKv pages_of(KvCache&, const ModelInfo&, int layer, const int32_t* page_table);

// Rotation of the model, and rows of the fused projection `qkv` [n_rows, (H + 2 G) d] bf16 from which queries
// go to q_out [n_rows, H d]; position, sequence, bias and cache remain to be filled.
kernels::cuda::append_kv::Params append_params(const model::Description&, const at::Tensor& frequencies,
                                               int n_rows, const at::Tensor& qkv, const at::Tensor& q_out);

kernels::cuda::append_kv::RotaryPairs rotary_pairs(const model::Description&);

// As Engine's add_and_norm() and gate() (engine.h).
at::Tensor add_and_norm(const model::Description&, at::Tensor& x, const at::Tensor& added,
                        const at::Tensor& weight);
at::Tensor gate(const at::Tensor& gate_up);

}  // namespace deltacal::decode
