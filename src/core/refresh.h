// A page list that serves several steps (delta_config.json: refresh_interval, refresh; method.md, "Stale
// recall").
//
// A Δ-layer makes its list at some steps and keeps it up to the next of them. The list in force at step t,
// made at t0 <= t with K and L, is
//
//   the newest min(L, U(t)) pages, newest first; then what the list of t0 ranked after its own newest L
//
// so the recent window is always current. What was ranked after the window of t0 is older than that of t: no
// page comes twice. Pages that were new after t0 and have left the window are lost. With t0 = t it is the
// list itself, and its first k pages are those of the list in force of a K of k, L <= k <= K.
#pragma once
#include <algorithm>
#include <cstdint>
#include <span>

#include "core/pages.h"

namespace deltacal {

// t0 where lists are made at the first step and wherever t is a multiple of `interval`.
constexpr int list_made_at(int t, int first_step, int interval) {
  return std::max(first_step, t - t % interval);
}

// Length of the list in force; below min(K, U(t)) only where the list of t0 had fewer than K pages.
constexpr int pages_in_force(const PageBudget& list, int t0, int t) {
  return std::min(list.l_pages, pages_seen(t)) +
         std::max(0, std::min(list.k_pages, pages_seen(t0)) - list.l_pages);
}

// Writes the list in force, pages_in_force() pages. made [min(K, U(t0))]: the list as it was ranked at t0.
void list_in_force(std::span<const int32_t> made, const PageBudget& list, int t0, int t,
                   std::span<int32_t> out);

// Positions attended at step t by a layer with the first k pages of the list in force, L <= k <= K: all where
// k is at least U(t). Every list begins with the newest page, which counts as far as it is filled.
constexpr long long positions_attended(int k_pages, const PageBudget& list, int t0, int t) {
  if (k_pages >= pages_seen(t)) return t + 1;
  return (std::min(k_pages, pages_in_force(list, t0, t)) - 1LL) * page_size + t % page_size + 1;
}

}  // namespace deltacal
