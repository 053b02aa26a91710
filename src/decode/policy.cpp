#include "decode/policy.h"

#include <algorithm>

namespace deltacal::decode {

Policy full_policy(int n_layers) { return {std::vector<LayerPolicy>(n_layers), 0, {}}; }

Policy delta_policy(const config::Schedule& schedule) {
  Policy policy;
  policy.position_bias = schedule.position_bias;
  policy.page_score = schedule.page_score;
  policy.refresh_interval = schedule.refresh_interval;
  policy.refresh = schedule.refresh;
  for (const auto& layer : schedule.layers) {
    const Attend attend = layer.role == config::Role::full    ? Attend::all
                          : layer.role == config::Role::delta ? Attend::all_rank
                                                              : Attend::list;
    policy.layers.push_back({attend, layer.k_pages, layer.l_pages});
  }
  return policy;
}

Policy streaming_policy(const std::vector<int>& pages) {
  Policy policy;
  for (const int k : pages) policy.layers.push_back({k > 0 ? Attend::window : Attend::all, k, 0});
  return policy;
}

int smallest_k(const Policy& policy) {
  int k = 0;
  for (const auto& layer : policy.layers) {
    const bool sparse = layer.attend == Attend::list || layer.attend == Attend::window ||
                        (layer.attend == Attend::all_rank && policy.keeps_lists());
    if (sparse) k = k == 0 ? layer.k_pages : std::min(k, layer.k_pages);
  }
  return k;
}

}  // namespace deltacal::decode
