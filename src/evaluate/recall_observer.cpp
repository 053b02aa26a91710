#include "evaluate/recall_observer.h"

#include <algorithm>

#include "kernels/page_score/page_score.h"

namespace deltacal::evaluate {

RecallObserver::RecallObserver(int n_layers, std::vector<int32_t> steps)
    : steps_(std::move(steps)), sum_(n_layers), n_(n_layers) {}

void RecallObserver::layer(const decode::LayerView& view) {
  if (!view.list) return;
  std::vector<int> rows;  // that are measured and do not attend to everything
  for (int r = 0; r < view.n_rows; ++r)
    if (view.list_length[r] >= 0 && std::binary_search(steps_.begin(), steps_.end(), view.position[r])) rows.push_back(r);
  if (rows.empty()) return;

  const int n = static_cast<int>(rows.size());
  const size_t row_size = size_t(view.n_heads) * view.head_dim;
  std::vector<float> q(n * row_size);
  std::vector<int32_t> length(n);
  for (int i = 0; i < n; ++i) {
    std::copy_n(view.q + rows[i] * row_size, row_size, &q[i * row_size]);
    length[i] = view.position[rows[i]] + 1;
  }
  const int n_pages = pages_for(*std::max_element(length.begin(), length.end()));
  std::vector<float> score(size_t(n) * n_pages), mass(size_t(n) * n_pages);
  kernels::page_score::Params p;
  p.n_rows = n;
  p.n_heads = view.n_heads;
  p.scale = view.scale;
  p.q = q.data();
  p.kv = view.kv;
  p.length = length.data();
  p.out_pages = n_pages;
  p.score = score.data();
  p.mass = mass.data();
  kernels::page_score::check(p);
  kernels::page_score::cpu(p);

  for (int i = 0; i < n; ++i) {
    const int32_t* list = view.list + size_t(rows[i]) * view.list_stride;
    double kept = 0;
    for (int j = 0; j < view.list_length[rows[i]]; ++j) kept += mass[size_t(i) * n_pages + list[j]];
    sum_[view.layer] += kept;
    ++n_[view.layer];
  }
}

std::vector<LayerRecall> RecallObserver::result() const {
  std::vector<LayerRecall> out;
  for (size_t layer = 0; layer < n_.size(); ++layer)
    if (n_[layer] > 0) out.push_back({static_cast<int>(layer), sum_[layer] / n_[layer]});
  return out;
}

}  // namespace deltacal::evaluate
