#include "kernels/record_scores/params.h"
#include "kernels/row_tile/check.h"

namespace deltacal::kernels::cuda::record_scores {

void check(const Params& p) {
  constexpr const char* kernel = "record_scores";
  require(p.n_rows >= 0, kernel, "n_rows", p.n_rows, "at least 0");
  if (p.n_rows == 0) return;
  row_tile::check_shape(kernel, {p.n_rows, p.n_heads, p.n_kv_heads, p.head_dim, p.n_keys, p.out_pages});
  require(p.scale > 0, kernel, "scale", p.scale, "more than 0");
  row_tile::check_array(kernel, "q", p.q);
  row_tile::check_array(kernel, "keys", p.keys);
  row_tile::check_stride(kernel, "key_token_stride", p.key_token_stride, p.head_dim);
  row_tile::check_stride(kernel, "key_head_stride", p.key_head_stride, p.head_dim);
  require_pointer(kernel, "lse", p.lse);
  require_pointer(kernel, "position", p.position);
  require_pointer(kernel, "score", p.score);
}

}  // namespace deltacal::kernels::cuda::record_scores
