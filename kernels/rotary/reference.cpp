#include <cmath>
#include <cstddef>
#include <vector>

#include "kernels/check.h"
#include "kernels/rotary/rotary.h"

namespace deltacal::kernels::rotary {

void reference(const Params& p) {
  constexpr const char* kernel = "rotary";
  require(p.n_rows >= 0, kernel, "n_rows", p.n_rows, "at least 0");
  require(p.rotary_dim >= 0 && p.rotary_dim % 2 == 0 && p.rotary_dim <= p.head_dim, kernel, "rotary_dim",
          p.rotary_dim, "an even number, 0 to head_dim");
  const size_t dim = size_t(p.head_dim), half = size_t(p.rotary_dim) / 2;
  for (size_t row = 0; row < size_t(p.n_rows) * size_t(p.n_heads); ++row) {
    const size_t head = row % size_t(p.n_heads);
    const double position = p.first_position + double(row / size_t(p.n_heads));
    std::vector<double> x(p.x + row * dim, p.x + (row + 1) * dim);
    for (size_t d = 0; d < dim && p.bias; ++d) x[d] += p.bias[head * dim + d];
    for (size_t j = 0; j < half; ++j) {
      const bool neox = p.pairs == RotaryPairs::neox;
      const size_t a = neox ? j : 2 * j, b = neox ? j + half : 2 * j + 1;
      const double angle = position * p.inverse_frequency[j] * (p.backward ? -1 : 1);
      const double c = std::cos(angle) * p.amplitude, s = std::sin(angle) * p.amplitude;
      const double first = x[a] * c - x[b] * s, second = x[b] * c + x[a] * s;
      x[a] = first, x[b] = second;
    }
    for (size_t d = 0; d < dim; ++d) p.out[row * dim + d] = float(x[d]);
  }
}

}  // namespace deltacal::kernels::rotary
