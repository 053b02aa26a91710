// What the backward pass on a CUDA device (backward_cuda.cpp) holds at one time, reckoned for who asks
// whether it fits.
#pragma once
#include <cstddef>
#include <cstdint>

#include "model/description.h"

namespace deltacal::sensitivity {

// Positions at a time: of the feed-forward part; of the output layer, whose width is the vocabulary.
constexpr int64_t cuda_rows_of_chunk = 4096, cuda_rows_of_logits = 1024;

// Bytes at the most, besides weights, the KV cache and what the forward pass kept: a layer's attention is
// taken for one that is computed again.
size_t cuda_backward_bytes(const model::Description&, int n_gradients, int n_positions);

}  // namespace deltacal::sensitivity
