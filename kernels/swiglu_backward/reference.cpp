#include <cmath>
#include <cstddef>

#include "kernels/check.h"
#include "kernels/swiglu_backward/swiglu_backward.h"

namespace deltacal::kernels::swiglu_backward {

void reference(const Params& p) {
  constexpr const char* kernel = "swiglu_backward";
  require(p.n_rows >= 0, kernel, "n_rows", p.n_rows, "at least 0");
  require(p.n >= 1, kernel, "n", p.n, "at least 1");
  const size_t n = size_t(p.n);
  for (size_t r = 0; r < size_t(p.n_rows); ++r) {
    for (size_t i = 0; i < n; ++i) {
      const double gate = p.gate_up[r * 2 * n + i], up = p.gate_up[r * 2 * n + n + i], dy = p.dy[r * n + i];
      const double s = 1 / (1 + std::exp(-gate));
      p.d_gate_up[r * 2 * n + i] = float(dy * up * s * (1 + gate * (1 - s)));
      p.d_gate_up[r * 2 * n + n + i] = float(dy * gate * s);
    }
  }
}

}  // namespace deltacal::kernels::swiglu_backward
