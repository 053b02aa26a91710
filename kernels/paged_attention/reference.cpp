#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/paged_attention/paged_attention.h"

namespace deltacal::kernels::paged_attention {
namespace {

// Positions that row r attends to, in the order of its pages.
std::vector<int> positions_of(const Params& p, int r) {
  const bool has_list = p.list && p.list_length[r] >= 0;
  const int n = has_list ? p.list_length[r] : pages_for(p.length[r]);
  std::vector<int> positions;
  for (int i = 0; i < n; ++i) {
    const int page = has_list ? p.list[size_t(r) * size_t(p.list_stride) + size_t(i)] : i;
    for (int t = page * page_size; t < std::min((page + 1) * page_size, p.length[r]); ++t)
      positions.push_back(t);
  }
  return positions;
}

}  // namespace

void reference(const Params& p) {
  check(p);
  const int dim = p.kv.head_dim;
  for (int r = 0; r < p.n_rows; ++r) {
    const int sequence = p.sequence ? p.sequence[r] : 0;
    const std::vector<int> positions = positions_of(p, r);
    for (int h = 0; h < p.n_heads; ++h) {
      const int g = h / (p.n_heads / p.kv.n_kv_heads);
      const size_t head = size_t(r) * size_t(p.n_heads) + size_t(h);
      std::vector<double> logit;
      for (const int t : positions) {
        double sum = 0;
        for (int d = 0; d < dim; ++d) {
          sum += double(p.q[head * size_t(dim) + size_t(d)]) * key_at(p.kv, sequence, g, t, d);
        }
        logit.push_back(sum * p.scale);
      }
      const double max = *std::max_element(logit.begin(), logit.end());
      double denominator = 0;
      std::vector<double> out(size_t(dim), 0.0);
      for (size_t i = 0; i < positions.size(); ++i) {
        const double weight = std::exp(logit[i] - max);
        denominator += weight;
        for (int d = 0; d < dim; ++d) out[size_t(d)] += weight * value_at(p.kv, sequence, g, positions[i], d);
      }
      for (int d = 0; d < dim; ++d)
        p.out[head * size_t(dim) + size_t(d)] = float(out[size_t(d)] / denominator);
      if (p.lse) p.lse[head] = float(max + std::log(denominator));
    }
  }
}

}  // namespace deltacal::kernels::paged_attention
