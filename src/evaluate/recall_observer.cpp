#include "evaluate/recall_observer.h"

#include <algorithm>

#include "decode/scored_rows.h"

namespace deltacal::evaluate {

RecallObserver::RecallObserver(int n_layers, std::vector<int32_t> steps)
    : steps_(std::move(steps)), sum_(n_layers), n_(n_layers) {}

void RecallObserver::layer(const decode::LayerView& view) {
  if (view.list_length.empty()) return;
  std::vector<int> rows;  // that are measured and do not attend to everything
  for (int r = 0; r < view.n_rows; ++r)
    if (view.list_length[r] >= 0 && std::binary_search(steps_.begin(), steps_.end(), view.position[r]))
      rows.push_back(r);
  if (rows.empty()) return;

  decode::ScoredRows scored;
  decode::score_rows(view, rows, false, scored);
  for (size_t i = 0; i < rows.size(); ++i) {
    const int32_t* list = view.list() + size_t(rows[i]) * view.list_stride;
    double kept = 0;
    for (int j = 0; j < view.list_length[rows[i]]; ++j) kept += scored.mass[i * scored.n_pages + list[j]];
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
