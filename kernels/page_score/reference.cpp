#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/page_score/page_score.h"

namespace deltacal::kernels::page_score {
namespace {

// alpha[i] of one row and head, i < length.
std::vector<double> probabilities(const Params& p, int r, int h) {
  const int sequence = p.sequence ? p.sequence[r] : 0, g = h / (p.n_heads / p.kv.n_kv_heads);
  const float* q = p.q + (size_t(r) * size_t(p.n_heads) + size_t(h)) * size_t(p.kv.head_dim);
  std::vector<double> alpha(size_t(p.length[r]), 0.0);
  for (int i = 0; i < p.length[r]; ++i) {
    for (int d = 0; d < p.kv.head_dim; ++d)
      alpha[size_t(i)] += double(q[d]) * key_at(p.kv, sequence, g, i, d);
    alpha[size_t(i)] *= p.scale;
  }
  const double max = *std::max_element(alpha.begin(), alpha.end());
  double denominator = 0;
  for (double& a : alpha) denominator += a = std::exp(a - max);
  for (double& a : alpha) a /= denominator;
  return alpha;
}

// The larger of the two; a NaN stays.
double larger(double a, double b) {
  return std::isnan(a) || a > b ? a : b;
}

}  // namespace

void reference(const Params& p) {
  check(p);
  const int group = p.n_heads / p.kv.n_kv_heads;
  for (int r = 0; r < p.n_rows; ++r) {
    std::vector<std::vector<double>> alpha;  // [n_heads, length]
    for (int h = 0; h < p.n_heads; ++h) alpha.push_back(probabilities(p, r, h));
    for (int u = 0; u < p.out_pages; ++u) {
      double score = 0;
      std::vector<double> group_sum(size_t(p.kv.n_kv_heads), 0.0);
      for (int i = u * page_size; i < std::min((u + 1) * page_size, p.length[r]); ++i) {
        double max = 0;
        for (int h = 0; h < p.n_heads; ++h) {
          max = larger(max, alpha[size_t(h)][size_t(i)]);
          group_sum[size_t(h / group)] += alpha[size_t(h)][size_t(i)];
        }
        score = p.page == Page::sum ? score + max : larger(score, max);
      }
      double sum = 0;
      for (int g = 0; g < p.kv.n_kv_heads; ++g) {
        const size_t row = size_t(r) * size_t(p.kv.n_kv_heads) + size_t(g);
        if (p.group_mass)
          p.group_mass[row * size_t(p.out_pages) + size_t(u)] = float(group_sum[size_t(g)] / group);
        sum += group_sum[size_t(g)];
      }
      const size_t at = size_t(r) * size_t(p.out_pages) + size_t(u);
      p.score[at] = float(score);
      if (p.mass) p.mass[at] = float(sum / p.n_heads);
    }
  }
}

}  // namespace deltacal::kernels::page_score
