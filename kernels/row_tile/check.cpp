#include "kernels/row_tile/check.h"

namespace deltacal::kernels::cuda::row_tile {

void check_shape(const char* kernel, const Shape& s) {
  require(s.n_kv_heads >= 1, kernel, "n_kv_heads", s.n_kv_heads, "at least 1");
  require(s.n_heads >= 1 && s.n_heads % s.n_kv_heads == 0, kernel, "n_heads", s.n_heads,
          fmt::format("a multiple of n_kv_heads = {}", s.n_kv_heads).c_str());
  require(has_head_dim(s.head_dim), kernel, "head_dim", s.head_dim, "64, 96, 128 or 256 on a GPU");
  require(s.n_keys >= 1 && s.n_keys <= max_keys, kernel, "n_keys", s.n_keys,
          fmt::format("1 to {}", max_keys).c_str());
  require(
      s.out_pages >= pages_for(s.n_keys) && s.out_pages <= pages_for(max_keys), kernel, "out_pages",
      s.out_pages,
      fmt::format("{} to {}, the pages of n_keys and of the most", pages_for(s.n_keys), pages_for(max_keys))
          .c_str());
}

void check_array(const char* kernel, const char* field, const void* pointer) {
  require_pointer(kernel, field, pointer);
  require(reinterpret_cast<uintptr_t>(pointer) % 16 == 0, kernel, field, pointer,
          "an address divisible by 16");
}

void check_stride(const char* kernel, const char* field, int64_t stride, int64_t least) {
  require(stride >= least && stride % 8 == 0, kernel, field, stride,
          fmt::format("a multiple of 8, at least {}", least).c_str());
}

}  // namespace deltacal::kernels::cuda::row_tile
