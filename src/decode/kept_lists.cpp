#include "decode/kept_lists.h"

#include <algorithm>
#include <cmath>

#include "core/refresh.h"
#include "decode/decoder.h"

namespace deltacal::decode {

KeptLists::KeptLists(const Policy& policy, const LayerPolicy& layer, int n_heads, int head_dim)
    : list_{layer.k_pages, layer.l_pages},
      interval_(policy.refresh_interval),
      n_heads_(n_heads),
      head_dim_(head_dim),
      signal_(policy.refresh) {}

bool KeptLists::plan(const Rows& rows, const float* query) {
  const size_t n_rows = rows.position.size(), row_size = size_t(n_heads_) * size_t(head_dim_);
  made_by_.assign(n_rows, prefilled);
  t0_.assign(n_rows, -1);
  bool any = false;
  for (size_t r = 0; r < n_rows; ++r) {
    const size_t sequence = size_t(rows.sequence[r]);
    const int t = rows.position[r], first_step = rows.prefilled_to[sequence];
    if (t < first_step) continue;
    if (sequence >= kept_.size()) kept_.resize(sequence + 1);
    Kept& kept = kept_[sequence];
    if (is_due(kept, t, first_step, query ? query + r * row_size : nullptr, query)) {
      kept.t0 = t;
      kept.row = int(r);
      any = true;
    }
    made_by_[r] = kept.row;
    t0_[r] = kept.t0;
  }
  return any;
}

// A list of a step that is not before t, or is before the first one, is of a sequence that was here earlier.
bool KeptLists::is_due(const Kept& kept, int t, int first_step, const float* q, const float* queries) const {
  if (kept.t0 < first_step || kept.t0 >= t) return true;
  if (!signal_) return t % interval_ == 0;
  const float* of_list = kept.row == earlier
                             ? kept.query.data()
                             : queries + size_t(kept.row) * size_t(n_heads_) * size_t(head_dim_);
  return t - kept.t0 >= signal_->max_interval || mean_cosine(q, of_list) < signal_->threshold;
}

double KeptLists::mean_cosine(const float* a, const float* b) const {
  double sum = 0;
  for (int h = 0; h < n_heads_; ++h) {
    double ab = 0, aa = 0, bb = 0;
    for (int d = 0; d < head_dim_; ++d, ++a, ++b) {
      ab += double(*a) * *b;
      aa += double(*a) * *a;
      bb += double(*b) * *b;
    }
    if (aa > 0 && bb > 0) sum += ab / std::sqrt(aa * bb);
  }
  return sum / n_heads_;
}

void KeptLists::fill(const Rows& rows, const float* query, std::span<int32_t> lists,
                     std::span<int32_t> length) {
  const size_t K = size_t(list_.k_pages), row_size = size_t(n_heads_) * size_t(head_dim_);
  const auto made = [&](int row, int t0) {
    return lists.subspan(size_t(row) * K, size_t(std::min(list_.k_pages, pages_seen(t0))));
  };
  for (size_t r = 0; r < made_by_.size(); ++r) {
    length[r] = 0;
    if (made_by_[r] == prefilled) continue;
    const int t = rows.position[r];
    length[r] = pages_in_force(list_, t0_[r], t);
    if (makes_list(int(r))) continue;
    std::span<const int32_t> from = kept_[size_t(rows.sequence[r])].pages;
    if (made_by_[r] != earlier) from = made(made_by_[r], t0_[r]);
    list_in_force(from, list_, t0_[r], t, lists.subspan(r * K, K));
  }
  for (Kept& kept : kept_) {
    if (kept.row == earlier) continue;
    const auto pages = made(kept.row, kept.t0);
    kept.pages.assign(pages.begin(), pages.end());
    if (signal_)
      kept.query.assign(query + size_t(kept.row) * row_size, query + size_t(kept.row + 1) * row_size);
    kept.row = earlier;
  }
}

}  // namespace deltacal::decode
