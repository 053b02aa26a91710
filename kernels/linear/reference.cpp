#include <cmath>
#include <cstddef>

#include "kernels/check.h"
#include "kernels/linear/linear.h"

namespace deltacal::kernels::linear {

void reference(const Params& p) {
  constexpr const char* kernel = "linear";
  require(p.n_rows >= 0, kernel, "n_rows", p.n_rows, "at least 0");
  require(p.n >= 1, kernel, "n", p.n, "at least 1");
  require(p.k >= 1, kernel, "k", p.k, "at least 1");
  const size_t n = size_t(p.n), n_k = size_t(p.k);
  const auto product = [&](size_t r, size_t i) {
    double sum = 0;
    for (size_t k = 0; k < n_k; ++k) sum += double(p.x[r * n_k + k]) * double(p.weight[i * n_k + k]);
    return sum;
  };
  for (size_t r = 0; r < size_t(p.n_rows); ++r) {
    for (size_t i = 0; i < n; ++i) {
      const double y = product(r, i);
      p.out[r * n + i] = float(p.gated ? y / (1 + std::exp(-y)) * product(r, n + i) : y);
    }
  }
}

}  // namespace deltacal::kernels::linear
