#include <algorithm>
#include <cmath>
#include <cstddef>

#include "kernels/check.h"
#include "kernels/token_nll/token_nll.h"

namespace deltacal::kernels::token_nll {

void reference(const Params& p) {
  constexpr const char* kernel = "token_nll";
  require(p.n_rows >= 0, kernel, "n_rows", p.n_rows, "at least 0");
  require(p.n >= 1, kernel, "n", p.n, "at least 1");
  for (size_t r = 0; r < size_t(p.n_rows); ++r) {
    const float *row = p.logits + r * size_t(p.n), *end = row + p.n;
    const double top = *std::max_element(row, end);
    double sum = 0;
    for (const float* x = row; x < end; ++x) sum += std::exp(*x - top);
    p.nll[r] = float(top + std::log(sum) - row[p.target[r]]);
  }
}

}  // namespace deltacal::kernels::token_nll
