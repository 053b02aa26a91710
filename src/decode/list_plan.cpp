#include "decode/list_plan.h"

#include <cmath>

#include "decode/decoder.h"

namespace deltacal::decode {

ListPlan::ListPlan(int interval, std::optional<config::AdaptiveRefresh> signal, int n_heads, int head_dim)
    : interval_(interval), n_heads_(n_heads), head_dim_(head_dim), signal_(signal) {}

bool ListPlan::plan(const Rows& rows, const float* query) {
  const size_t n_rows = rows.position.size(), row_size = size_t(n_heads_) * size_t(head_dim_);
  made_by_.assign(n_rows, prefilled);
  t0_.assign(n_rows, -1);
  bool any = false;
  for (size_t r = 0; r < n_rows; ++r) {
    const size_t sequence = size_t(rows.sequence[r]);
    const int t = rows.position[r], first_step = rows.prefilled_to[sequence];
    if (t < first_step) continue;
    if (sequence >= last_.size()) last_.resize(sequence + 1);
    Last& last = last_[sequence];
    if (is_due(last, t, first_step, query ? query + r * row_size : nullptr, query)) {
      last.t0 = t;
      last.row = int(r);
      any = true;
    }
    made_by_[r] = last.row;
    t0_[r] = last.t0;
  }
  return any;
}

// A list of a step that is not before t, or is before the first one, is of a sequence that was here earlier.
bool ListPlan::is_due(const Last& last, int t, int first_step, const float* q, const float* queries) const {
  if (last.t0 < first_step || last.t0 >= t) return true;
  if (!signal_) return t % interval_ == 0;
  const float* of_list = last.row == earlier
                             ? last.query.data()
                             : queries + size_t(last.row) * size_t(n_heads_) * size_t(head_dim_);
  return t - last.t0 >= signal_->max_interval || mean_cosine(q, of_list) < signal_->threshold;
}

double ListPlan::mean_cosine(const float* a, const float* b) const {
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

void ListPlan::keep(const float* query) {
  const size_t row_size = size_t(n_heads_) * size_t(head_dim_);
  for (Last& last : last_) {
    if (last.row == earlier) continue;
    if (signal_)
      last.query.assign(query + size_t(last.row) * row_size, query + size_t(last.row + 1) * row_size);
    last.row = earlier;
  }
}

}  // namespace deltacal::decode
