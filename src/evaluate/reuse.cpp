#include "evaluate/reuse.h"

#include <algorithm>

namespace deltacal::evaluate {
namespace {

using decode::Attend;
using decode::LayerPolicy;

// At every step, that is.
bool attends_to_all(const decode::Policy& policy, int layer) {
  const Attend attend = policy.layers[layer].attend;
  return attend == Attend::all || (attend == Attend::all_rank && !policy.keeps_lists());
}

// The layer that made the list which `layer` reads; -1 without one.
int source_of(const decode::Policy& policy, int layer) {
  for (int l = layer - 1; l >= 0; --l)
    if (policy.layers[l].attend == Attend::all_rank) return l;
  return -1;
}

// The same output from the same input and cache.
bool same_output(const decode::Policy& a, const decode::Policy& b, int layer) {
  const LayerPolicy &x = a.layers[layer], &y = b.layers[layer];
  const bool all = attends_to_all(a, layer);
  if (all || attends_to_all(b, layer)) return all && attends_to_all(b, layer);
  if (x.attend != y.attend || x.k_pages != y.k_pages) return false;
  if (x.attend == Attend::window) return true;
  if (a.position_bias != b.position_bias || a.page_score != b.page_score ||
      a.refresh_interval != b.refresh_interval || a.refresh != b.refresh)
    return false;
  if (x.attend == Attend::all_rank)
    return x.l_pages == y.l_pages;  // its own list, at the steps that make none
  const int source = source_of(a, layer);
  return source == source_of(b, layer) && a.layers[source].l_pages == b.layers[source].l_pages;
}

}  // namespace

int first_layer(const decode::Policy& policy, const decode::Policy& other) {
  const int n_layers = static_cast<int>(policy.layers.size());
  int first = 0;
  while (first < n_layers - 1 && same_output(policy, other, first)) ++first;
  // The next layer that reads a list may read one made below.
  for (int layer = first; layer < n_layers; ++layer) {
    const Attend attend = policy.layers[layer].attend;
    if (attend == Attend::list) return std::min(first, source_of(policy, layer));
    if (attend == Attend::all_rank) return first;
  }
  return first;
}

std::vector<Reuse> plan_reuse(std::span<const decode::Policy> policies, bool only_full) {
  std::vector<Reuse> plan;
  for (size_t i = 0; i < policies.size(); ++i) {
    const decode::Policy full = decode::full_policy(static_cast<int>(policies[i].layers.size()));
    Reuse best{-1, first_layer(policies[i], full)};
    for (size_t run = 0; run < i && !only_full; ++run)
      if (const int first = first_layer(policies[i], policies[run]); first > best.first_layer)
        best = {static_cast<int>(run), first};
    plan.push_back(best);
  }
  return plan;
}

}  // namespace deltacal::evaluate
