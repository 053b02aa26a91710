#include <cmath>
#include <cstddef>

#include "kernels/check.h"
#include "kernels/rms_norm_backward/rms_norm_backward.h"

namespace deltacal::kernels::rms_norm_backward {

void reference(const Params& p) {
  constexpr const char* kernel = "rms_norm_backward";
  require(p.n_rows >= 0, kernel, "n_rows", p.n_rows, "at least 0");
  require(p.n >= 1, kernel, "n", p.n, "at least 1");
  require(p.epsilon >= 0, kernel, "epsilon", p.epsilon, "at least 0");
  const size_t n = size_t(p.n);
  for (size_t r = 0; r < size_t(p.n_rows); ++r) {
    const float *x = p.x + r * n, *dy = p.dy + r * n;
    double squares = 0, products = 0;
    for (size_t i = 0; i < n; ++i) {
      squares += double(x[i]) * x[i];
      products += double(p.weight[i]) * dy[i] * x[i];
    }
    const double s = 1 / std::sqrt(squares / double(n) + p.epsilon);
    for (size_t i = 0; i < n; ++i) {
      const double dx = s * (double(p.weight[i]) * dy[i] - x[i] * s * s * products / double(n));
      p.gradient[r * n + i] = float(p.gradient[r * n + i] + dx);
    }
  }
}

}  // namespace deltacal::kernels::rms_norm_backward
