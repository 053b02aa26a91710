#include "core/refresh.h"

#include <cassert>

namespace deltacal {

void list_in_force(std::span<const int32_t> made, const PageBudget& list, int t0, int t,
                   std::span<int32_t> out) {
  assert(std::ssize(made) == std::min(list.k_pages, pages_seen(t0)));
  assert(std::ssize(out) >= pages_in_force(list, t0, t));
  const int newest = pages_seen(t) - 1, window = std::min(list.l_pages, newest + 1);
  for (int i = 0; i < window; ++i) out[size_t(i)] = newest - i;
  const auto ranked = made.subspan(std::min(made.size(), size_t(list.l_pages)));
  std::ranges::copy(ranked, out.begin() + window);
}

}  // namespace deltacal
