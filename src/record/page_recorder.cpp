#include "record/page_recorder.h"

#include <algorithm>

#include "kernels/page_score/page_score.h"

namespace deltacal::record {

PageRecorder::PageRecorder(trace::SampleWriter& writer, std::span<const int32_t> steps, bool group_mass)
    : writer_(writer), steps_(steps.begin(), steps.end()), group_mass_(group_mass) {}

void PageRecorder::layer(const decode::LayerView& view) {
  // Rows are consecutive positions of one sequence, so the recorded ones are a slice of steps_.
  const auto first = std::lower_bound(steps_.begin(), steps_.end(), view.position.front());
  const auto last = std::upper_bound(first, steps_.end(), view.position.back());
  const int n = static_cast<int>(last - first);
  if (n == 0) return;

  const size_t row_size = size_t(view.n_heads) * view.head_dim;
  q_.resize(n * row_size);
  length_.resize(n);
  for (int i = 0; i < n; ++i) {
    const float* q = view.q + (first[i] - view.position.front()) * row_size;
    std::copy(q, q + row_size, &q_[i * row_size]);
    length_[i] = first[i] + 1;
  }
  const int n_pages = pages_seen(*(last - 1));
  score_.resize(size_t(n) * n_pages);
  mass_.resize(size_t(n) * n_pages);
  if (group_mass_) group_.resize(size_t(n) * view.kv.n_kv_heads * n_pages);

  kernels::page_score::Params p;
  p.n_rows = n;
  p.n_heads = view.n_heads;
  p.scale = view.scale;
  p.q = q_.data();
  p.kv = view.kv;
  p.length = length_.data();
  p.out_pages = n_pages;
  p.score = score_.data();
  p.mass = mass_.data();
  p.group_mass = group_mass_ ? group_.data() : nullptr;
  kernels::page_score::check(p);
  kernels::page_score::cpu(p);

  const int first_row = static_cast<int>(first - steps_.begin());
  writer_.write_pages(view.layer, first_row, n, n_pages, score_, mass_);
  if (group_mass_) writer_.write_group_mass(view.layer, first_row, n, n_pages, group_);
}

}  // namespace deltacal::record
