#include "decode/kept_lists.h"

#include <algorithm>

#include "core/refresh.h"
#include "decode/decoder.h"

namespace deltacal::decode {

KeptLists::KeptLists(const Policy& policy, const LayerPolicy& layer, int n_heads, int head_dim)
    : list_{layer.k_pages, layer.l_pages},
      plan_(policy.refresh_interval, policy.refresh, n_heads, head_dim) {}

void KeptLists::fill(const Rows& rows, const float* query, std::span<int32_t> lists,
                     std::span<int32_t> length) {
  const size_t K = size_t(list_.k_pages);
  const auto made = [&](int row, int t0) {
    return lists.subspan(size_t(row) * K, size_t(std::min(list_.k_pages, pages_seen(t0))));
  };
  std::vector<int> last(pages_.size(), -1);  // by sequence: the last row that makes a list
  for (int r = 0; r < plan_.n_rows(); ++r) {
    length[r] = 0;
    if (plan_.made_by(r) == ListPlan::prefilled) continue;
    const size_t sequence = size_t(rows.sequence[r]);
    const int t = rows.position[r], t0 = plan_.made_at(r);
    length[r] = pages_in_force(list_, t0, t);
    if (plan_.makes_list(r)) {
      if (sequence >= last.size()) last.resize(sequence + 1, -1);
      last[sequence] = r;
      continue;
    }
    const std::span<const int32_t> from = plan_.made_by(r) == ListPlan::earlier
                                              ? std::span<const int32_t>(pages_[sequence])
                                              : made(plan_.made_by(r), t0);
    list_in_force(from, list_, t0, t, lists.subspan(size_t(r) * K, K));
  }
  pages_.resize(last.size());
  for (size_t sequence = 0; sequence < last.size(); ++sequence) {
    if (last[sequence] < 0) continue;
    const auto pages = made(last[sequence], plan_.made_at(last[sequence]));
    pages_[sequence].assign(pages.begin(), pages.end());
  }
  plan_.keep(query);
}

}  // namespace deltacal::decode
