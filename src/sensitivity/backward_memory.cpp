#include "sensitivity/backward_memory.h"

namespace deltacal::sensitivity {

std::vector<decode::PrefillNeed::Phase> phases_of_cuda_backward(const model::Description& d,
                                                                int n_gradients) {
  const size_t H = size_t(d.info.n_heads), q = H * size_t(d.info.head_dim),
               kv = size_t(d.info.n_kv_heads) * size_t(d.info.head_dim), n = size_t(n_gradients),
               E = size_t(d.n_embd), F = size_t(d.n_ff), V = size_t(d.n_vocab);
  // Of a position, all the while: the residual stream's gradients, f32 and bf16; queries, outputs and
  // log-sum-exp (and its transpose) of the layer's attention.
  const size_t attended = 4 * q + 8 * H, always = 6 * n * E + attended;
  const size_t of_outputs = 2 * n * q;  // gradients of the attention output
  // Keys and values; gradients of queries, keys and values, also those of every query head that keys and
  // values are summed from, or the joined ones; what is summed in f32.
  const size_t attention = 4 * kv + (2 + 12) * q + 8 * kv + 8 * H;
  // Attention takes rows up to the next thousand.
  const auto phase = [&](size_t bytes, size_t per_position) {
    return decode::PrefillNeed::Phase{bytes + 1023 * (per_position - 6 * n * E), per_position};
  };
  return {
      // The output layer: probabilities and their sums, f32; beside the last layer's feed-forward part.
      phase(size_t(cuda_rows_of_chunk) * (8 * E + 6 * F) + size_t(cuda_rows_of_logits) * (8 * V + 16 * E),
            always),
      // The feed-forward part, beside the values of the layer above.
      phase(size_t(cuda_rows_of_chunk) * (8 * E + 10 * F) + decode::value_block_bytes, always + of_outputs),
      // Attention, beside those.
      phase(size_t(cuda_rows_of_chunk) * 4 * E + decode::value_block_bytes, always + of_outputs + attention),
  };
}

}  // namespace deltacal::sensitivity
