#include "sensitivity/backward_memory.h"

#include <algorithm>

#include "core/pages.h"
#include "decode/step_memory.h"

namespace deltacal::sensitivity {

size_t cuda_backward_bytes(const model::Description& d, int n_gradients, int n_positions) {
  const size_t H = size_t(d.info.n_heads), q = H * size_t(d.info.head_dim),
               kv = size_t(d.info.n_kv_heads) * size_t(d.info.head_dim), n = size_t(n_gradients),
               E = size_t(d.n_embd), F = size_t(d.n_ff), V = size_t(d.n_vocab), T = size_t(n_positions),
               of_attention = T + 1023,  // rows, up to the next thousand
      chunk = std::min<size_t>(T, cuda_rows_of_chunk), of_logits = std::min<size_t>(T, cuda_rows_of_logits);
  // All the while: the residual stream's gradients, f32 and bf16; queries, outputs and log-sum-exp (and its
  // transpose) of the layer's attention.
  const size_t always = 6 * n * T * E + of_attention * (4 * q + 8 * H);
  // The output layer: probabilities and their sums, f32; beside the last layer's feed-forward part.
  const size_t head = chunk * (8 * E + 6 * F) + of_logits * (8 * V + 16 * E);
  // Page values of the layer above, a block of them at the most; gradients of the attention output.
  const size_t beside = std::min(decode::value_block_bytes,
                                 T * decode::value_row_bytes(d.info, n_gradients, pages_for(n_positions))) +
                        of_attention * 2 * n * q;
  // The first layer's, of some rows: also their gradients, gathered.
  const size_t feed_forward = beside + chunk * (14 * E + 10 * F);
  // Keys and values; gradients of queries, keys and values, also those of every query head that keys and
  // values are summed from, or the joined ones; what is summed in f32. What the steps ask for of the
  // attention output's gradients, one loss after the other, takes less.
  const size_t attention = beside + of_attention * (4 * kv + (2 + 12) * q + 8 * kv + 8 * H) + chunk * 4 * E;
  return always + std::max({head, feed_forward, attention});
}

}  // namespace deltacal::sensitivity
