#include <cmath>
#include <cstddef>

#include "kernels/check.h"
#include "kernels/merge_attention/merge_attention.h"

namespace deltacal::kernels::merge_attention {

void reference(const Params& p) {
  constexpr const char* kernel = "merge_attention";
  require(p.n_rows >= 0, kernel, "n_rows", p.n_rows, "at least 0");
  require(p.n_heads >= 1, kernel, "n_heads", p.n_heads, "at least 1");
  require(p.head_dim >= 1, kernel, "head_dim", p.head_dim, "at least 1");
  const size_t n_rows = size_t(p.n_rows), n_heads = size_t(p.n_heads), dim = size_t(p.head_dim);
  for (size_t r = 0; r < n_rows; ++r) {
    for (size_t h = 0; h < n_heads; ++h) {
      // lse = log(e^a + e^b) = a + log(1 + e^(b - a))
      const double a = p.lse_a[h * n_rows + r], b = p.lse_b[h * n_rows + r];
      const double lse = a > b ? a + std::log1p(std::exp(b - a)) : b + std::log1p(std::exp(a - b));
      const double of_a = std::exp(a - lse), of_b = std::exp(b - lse);
      for (size_t i = (r * n_heads + h) * dim; i < (r * n_heads + h + 1) * dim; ++i)
        p.out[i] = float(of_a * p.a[i] + of_b * p.b[i]);
      p.lse[r * n_heads + h] = float(lse);
    }
  }
}

}  // namespace deltacal::kernels::merge_attention
