// Inside of Activations. Included only by src/sensitivity/*.cpp.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "sensitivity/activations.h"

namespace deltacal::sensitivity {

// Attention of one layer as its backward takes it. T': rows_of_attention().
struct Attended {
  at::Tensor q;    // [T', H, d] bf16 after rotary embedding
  at::Tensor out;  // [T', H, d] bf16
  at::Tensor lse;  // [H, T'] f32 natural log of the softmax's denominator
};

// On the device; rows from T on are 0, the others to be filled.
Attended make_attended(const ModelInfo&, int64_t n_tokens);
at::Tensor rows_for_attention(const ModelInfo&, int64_t n_tokens);  // q, or out, of such

// T, or as many more as it takes for cuDNN to do the backward of a long sequence (decode::suits_cudnn): rows
// of zeros, which nothing before them sees and whose own gradients are 0.
int64_t rows_of_attention(int64_t n_tokens, int head_dim);

struct Activations::Impl {
  int64_t n_tokens = 0;
  std::vector<at::Tensor> hidden;  // [N] of [T, E] f32
  // On a device alone. Of a layer without them the backward pass computes them again.
  std::vector<Attended> attended;                // [N]
  std::vector<bool> keeps_gate_up;               // [N]
  std::vector<std::vector<at::Tensor>> gate_up;  // [N] of consecutive parts of [T, 2 F] bf16

  // Positions first.. of a layer that keeps it. [rows, 2 F]
  at::Tensor gate_up_of(int layer, int64_t first, int64_t rows) const;
};

}  // namespace deltacal::sensitivity
