// What the backward pass on a CUDA device (backward_cuda.cpp) holds at one time, reckoned for who asks
// whether it fits.
#pragma once
#include <cstdint>
#include <vector>

#include "decode/step_memory.h"

namespace deltacal::sensitivity {

// Positions at a time: of the feed-forward part; of the output layer, whose width is the vocabulary.
constexpr int64_t cuda_rows_of_chunk = 4096, cuda_rows_of_logits = 1024;

// Besides weights, the KV cache and what the forward pass kept: a layer's attention is taken for one that is
// computed again.
std::vector<decode::PrefillNeed::Phase> phases_of_cuda_backward(const model::Description&, int n_gradients);

}  // namespace deltacal::sensitivity
