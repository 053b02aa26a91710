#include "kernels/record_values/params.h"
#include "kernels/row_tile/check.h"

namespace deltacal::kernels::cuda::record_values {

void check(const Params& p) {
  constexpr const char* kernel = "record_values";
  require(p.n_rows >= 0, kernel, "n_rows", p.n_rows, "at least 0");
  require(p.n_gradients >= 1 && p.n_gradients <= 65535, kernel, "n_gradients", p.n_gradients, "1 to 65535");
  if (p.n_rows == 0) return;
  row_tile::check_shape(kernel, {p.n_rows, p.n_heads, p.n_kv_heads, p.head_dim, p.n_keys, p.out_pages});
  require(p.scale > 0, kernel, "scale", p.scale, "more than 0");
  row_tile::check_array(kernel, "q", p.q);
  row_tile::check_array(kernel, "keys", p.keys);
  row_tile::check_array(kernel, "values", p.values);
  row_tile::check_stride(kernel, "token_stride", p.token_stride, p.head_dim);
  row_tile::check_stride(kernel, "head_stride", p.head_stride, p.head_dim);
  require_pointer(kernel, "gradient", p.gradient);
  require(reinterpret_cast<uintptr_t>(p.gradient) % 8 == 0, kernel, "gradient",
          static_cast<const void*>(p.gradient), "an address divisible by 8");
  require_pointer(kernel, "lse", p.lse);
  require_pointer(kernel, "position", p.position);
  require_pointer(kernel, "mass", p.mass);
  require_pointer(kernel, "value", p.value);
}

}  // namespace deltacal::kernels::cuda::record_values
