#include "kernels/append_kv/append_kv.h"
#include "kernels/check.h"

namespace deltacal::kernels::append_kv {

void check(const Params& p) {
  constexpr const char* kernel = "append_kv";
  require(p.n_rows >= 0, kernel, "n_rows", p.n_rows, "at least 0");
  if (p.n_rows == 0) return;
  check_cache(kernel, p.kv);
  check_heads(kernel, p.n_heads, p.kv);
  require(p.rotary_dim >= 0 && p.rotary_dim % 2 == 0 && p.rotary_dim <= p.kv.head_dim, kernel, "rotary_dim",
          p.rotary_dim, fmt::format("an even number, 0 to head_dim = {}", p.kv.head_dim).c_str());
  if (p.rotary_dim > 0) require_pointer(kernel, "inverse_frequency", p.inverse_frequency);
  require_pointer(kernel, "position", p.position);
  require_pointer(kernel, "q", p.q);
  require_pointer(kernel, "k", p.k);
  require_pointer(kernel, "v", p.v);
  for (int r = 0; r < p.n_rows; ++r) {
    const int s = p.sequence ? p.sequence[r] : 0;
    if (s < 0) throw bad_input("{}: sequence[{}] is {}, expected at least 0", kernel, r, s);
    if (p.position[r] < 0)
      throw bad_input("{}: position[{}] is {}, expected at least 0", kernel, r, p.position[r]);
    check_page(kernel, p.kv, r, s, page_of(p.position[r]));
  }
}

}  // namespace deltacal::kernels::append_kv
