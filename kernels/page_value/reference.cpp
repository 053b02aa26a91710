#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/page_value/page_value.h"

namespace deltacal::kernels::page_value {
namespace {

double dot(const Params& p, int g, int sequence, int position, const float* x,
           float (*at)(const PagedKv&, int, int, int, int)) {
  double sum = 0;
  for (int d = 0; d < p.kv.head_dim; ++d) sum += double(x[d]) * at(p.kv, sequence, g, position, d);
  return sum;
}

void row_and_head(const Params& p, int r, int h) {
  const int sequence = p.sequence ? p.sequence[r] : 0, g = h / (p.n_heads / p.kv.n_kv_heads);
  const size_t rows = size_t(p.n_rows), heads = size_t(p.n_heads), pages = size_t(p.out_pages);
  const size_t head = size_t(r) * heads + size_t(h), dim = size_t(p.kv.head_dim);

  std::vector<double> alpha;  // [length]
  for (int i = 0; i < p.length[r]; ++i)
    alpha.push_back(p.scale * dot(p, g, sequence, i, p.q + head * dim, key_at));
  const double max = *std::max_element(alpha.begin(), alpha.end());
  double denominator = 0;
  for (double& a : alpha) denominator += a = std::exp(a - max);

  for (int n = -1; n < p.n_gradients; ++n) {
    const size_t row = size_t(n) * rows * heads + head;  // of gradient and value
    std::vector<double> sum(pages, 0.0);
    for (int i = 0; i < p.length[r]; ++i)
      sum[size_t(page_of(i))] += alpha[size_t(i)] / denominator *
                                 (n < 0 ? 1 : dot(p, g, sequence, i, p.gradient + row * dim, value_at));
    float* out = n < 0 ? p.mass + head * pages : p.value + row * pages;
    for (size_t u = 0; u < pages; ++u) out[u] = float(sum[u]);
  }
}

}  // namespace

void reference(const Params& p) {
  check(p);
  for (int r = 0; r < p.n_rows; ++r)
    for (int h = 0; h < p.n_heads; ++h) row_and_head(p, r, h);
}

}  // namespace deltacal::kernels::page_value
