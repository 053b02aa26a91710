#include <cmath>
#include <cstddef>

#include "kernels/check.h"
#include "kernels/rms_norm/rms_norm.h"

namespace deltacal::kernels::rms_norm {

void reference(const Params& p) {
  constexpr const char* kernel = "rms_norm";
  require(p.n_rows >= 0, kernel, "n_rows", p.n_rows, "at least 0");
  require(p.n >= 1, kernel, "n", p.n, "at least 1");
  require(p.epsilon >= 0, kernel, "epsilon", p.epsilon, "at least 0");
  for (size_t r = 0; r < size_t(p.n_rows); ++r) {
    const size_t n = size_t(p.n);
    double squares = 0;
    for (size_t i = r * n; i < (r + 1) * n; ++i) {
      if (p.y) p.x[i] = float(double(p.x[i]) + p.y[i]);
      squares += double(p.x[i]) * p.x[i];
    }
    const double norm = std::sqrt(squares / p.n + p.epsilon);
    for (size_t i = 0; i < n; ++i) p.out[r * n + i] = float(p.x[r * n + i] / norm * p.weight[i]);
  }
}

}  // namespace deltacal::kernels::rms_norm
