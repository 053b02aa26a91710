#include "record/page_recorder.h"

#include <algorithm>

namespace deltacal::record {
namespace {
constexpr int rows_at_once = 512;   // scored together: 8 MB of 2,048 pages
constexpr size_t most_pending = 4;  // on their way at one time
}  // namespace

PageRecorder::PageRecorder(trace::SampleWriter& writer, std::span<const int32_t> steps, bool group_mass)
    : writer_(writer), steps_(steps.begin(), steps.end()), group_mass_(group_mass) {}

void PageRecorder::layer(const decode::LayerView& view) {
  // Rows are consecutive positions of one sequence, so the recorded ones are a slice of steps_.
  const auto first = std::lower_bound(steps_.begin(), steps_.end(), view.position.front());
  const auto last = std::upper_bound(first, steps_.end(), view.position.back());
  const int n = static_cast<int>(last - first);
  if (n == 0) return;

  for (int done = 0; done < n; done += rows_at_once) {
    std::vector<int> rows(std::min(rows_at_once, n - done));  // of the view
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = first[done + int(i)] - view.position.front();
    pending_.push_back({view.layer, static_cast<int>(first - steps_.begin()) + done,
                        static_cast<int>(rows.size()), decode::begin_scores(view, rows, group_mass_)});
    while (pending_.size() > most_pending) write_oldest();
  }
}

void PageRecorder::write_oldest() {
  const Pending oldest = std::move(pending_.front());
  pending_.pop_front();
  oldest.take(scored_);
  writer_.write_pages(oldest.layer, oldest.first_row, oldest.n_rows, scored_.n_pages, scored_.score,
                      scored_.mass);
  if (group_mass_)
    writer_.write_group_mass(oldest.layer, oldest.first_row, oldest.n_rows, scored_.n_pages,
                             scored_.group_mass);
}

void PageRecorder::finish() {
  while (!pending_.empty()) write_oldest();
}

}  // namespace deltacal::record
