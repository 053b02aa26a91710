// Page arithmetic of the KV cache. A page holds 16 consecutive positions: page(i) = i / 16.
#pragma once

namespace deltacal {

inline constexpr int page_size = 16;

constexpr int page_of(int position) { return position / page_size; }

// Pages that hold `n_positions` positions.
constexpr int pages_for(int n_positions) { return (n_positions + page_size - 1) / page_size; }

// U(t): pages that the query at 0-based position t sees (its keys are the positions 0..t).
constexpr int pages_seen(int t) { return t / page_size + 1; }

// K and L of a page selection, 1 <= L <= K: K pages, the L newest of them in any case (method.md, "Selection").
struct PageBudget {
  int k_pages = 0, l_pages = 0;
  bool operator==(const PageBudget&) const = default;
};

}  // namespace deltacal
