#include "record/page_recorder.h"

#include <algorithm>

namespace deltacal::record {

PageRecorder::PageRecorder(trace::SampleWriter& writer, std::span<const int32_t> steps, bool group_mass)
    : writer_(writer), steps_(steps.begin(), steps.end()), group_mass_(group_mass) {}

void PageRecorder::layer(const decode::LayerView& view) {
  // Rows are consecutive positions of one sequence, so the recorded ones are a slice of steps_.
  const auto first = std::lower_bound(steps_.begin(), steps_.end(), view.position.front());
  const auto last = std::upper_bound(first, steps_.end(), view.position.back());
  const int n = static_cast<int>(last - first);
  if (n == 0) return;

  std::vector<int> rows(n);  // of the view
  for (int i = 0; i < n; ++i) rows[i] = first[i] - view.position.front();
  decode::score_rows(view, rows, group_mass_, scored_);

  const int first_row = static_cast<int>(first - steps_.begin());
  writer_.write_pages(view.layer, first_row, n, scored_.n_pages, scored_.score, scored_.mass);
  if (group_mass_) writer_.write_group_mass(view.layer, first_row, n, scored_.n_pages, scored_.group_mass);
}

}  // namespace deltacal::record
