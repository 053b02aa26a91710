#include <cmath>
#include <vector>

#include "kernels/append_kv/append_kv.h"

namespace deltacal::kernels::append_kv {
namespace {

// x[head_dim] turned by the angles of `position`.
std::vector<double> rotated(const Params& p, const float* x, int position) {
  std::vector<double> y(x, x + p.kv.head_dim);
  for (int j = 0; j < p.rotary_dim / 2; ++j) {
    const bool neox = p.pairs == RotaryPairs::neox;
    const size_t a = size_t(neox ? j : 2 * j), b = size_t(neox ? j + p.rotary_dim / 2 : 2 * j + 1);
    const double angle = double(position) * p.inverse_frequency[j];
    const double c = std::cos(angle) * p.amplitude, s = std::sin(angle) * p.amplitude;
    y[a] = x[a] * c - x[b] * s;
    y[b] = x[b] * c + x[a] * s;
  }
  return y;
}

void store(const PagedKv& kv, void* array, size_t index, double x) {
  if (kv.type == KvType::f32) {
    static_cast<float*>(array)[index] = float(x);
  } else {
    static_cast<bf16*>(array)[index] = to_bf16(float(x));
  }
}

}  // namespace

void reference(const Params& p) {
  check(p);
  const size_t dim = size_t(p.kv.head_dim);
  for (int r = 0; r < p.n_rows; ++r) {
    const int t = p.position[r], physical = p.kv.physical(p.sequence ? p.sequence[r] : 0, page_of(t));
    for (int h = 0; h < p.n_heads; ++h) {
      float* q = p.q + (size_t(r) * size_t(p.n_heads) + size_t(h)) * dim;
      const std::vector<double> turned = rotated(p, q, t);
      for (size_t d = 0; d < dim; ++d) q[d] = float(turned[d]);
    }
    for (int g = 0; g < p.kv.n_kv_heads; ++g) {
      const size_t row = (size_t(r) * size_t(p.kv.n_kv_heads) + size_t(g)) * dim,
                   slot = size_t(t % page_size);
      const size_t page = p.kv.page_offset(physical, g);
      const std::vector<double> turned = rotated(p, p.k + row, t);
      for (size_t d = 0; d < dim; ++d) {
        store(p.kv, p.kv.keys, page + d * page_size + slot, turned[d]);
        store(p.kv, p.kv.values, page + slot * dim + d, p.v[row + d]);
      }
    }
  }
}

}  // namespace deltacal::kernels::append_kv
