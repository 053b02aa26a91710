#include "decode/scored_rows.h"

#include <algorithm>

namespace deltacal::decode {

void score_rows(const LayerView& view, std::span<const int> rows, bool group_mass, ScoredRows& out,
                PageScore page) {
  const size_t n = rows.size(), row_size = size_t(view.n_heads) * view.head_dim;
  std::vector<float> q(n * row_size);           // [n, n_heads, head_dim]
  std::vector<int32_t> length(n), sequence(n);  // [n]
  for (size_t i = 0; i < n; ++i) {
    std::copy_n(view.q + rows[i] * row_size, row_size, &q[i * row_size]);
    length[i] = view.position[rows[i]] + 1;
    sequence[i] = view.sequence[rows[i]];
  }
  out.n_pages = pages_for(*std::max_element(length.begin(), length.end()));
  out.score.resize(n * out.n_pages);
  out.mass.resize(n * out.n_pages);
  out.group_mass.resize(group_mass ? n * view.kv.n_kv_heads * out.n_pages : 0);

  kernels::page_score::Params p;
  p.n_rows = static_cast<int>(n);
  p.n_heads = view.n_heads;
  p.scale = view.scale;
  p.q = q.data();
  p.kv = view.kv;
  p.sequence = sequence.data();
  p.length = length.data();
  p.page = kernel_page(page);
  p.out_pages = out.n_pages;
  p.score = out.score.data();
  p.mass = out.mass.data();
  p.group_mass = group_mass ? out.group_mass.data() : nullptr;
  kernels::page_score::cpu(p);
}

}  // namespace deltacal::decode
