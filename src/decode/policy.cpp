#include "decode/policy.h"

#include <algorithm>

#include "core/error.h"

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

bool Policy::needs_host() const {
  return keeps_lists() || std::ranges::count(layers, Attend::window, &LayerPolicy::attend) > 0;
}

void check_for_capture(const Policy& policy, int n_layers) {
  if (static_cast<int>(policy.layers.size()) != n_layers)
    throw bad_input("the schedule has {} layers, the model {}", policy.layers.size(), n_layers);
  if (policy.keeps_lists())
    throw bad_input(
        "lists that serve several steps are made by the host: a step captured as a CUDA graph makes one at "
        "every step (refresh_interval 1)");
  bool ranked = false;
  for (size_t layer = 0; layer < policy.layers.size(); ++layer) {
    const LayerPolicy& p = policy.layers[layer];
    if (p.attend == Attend::window)
      throw bad_input(
          "layer {} attends to a window: a step captured as a CUDA graph attends to all pages or to lists",
          layer);
    if (p.attend == Attend::list && !ranked)
      throw bad_input("layer {} attends to a list, and no layer below it makes one", layer);
    ranked = ranked || p.attend == Attend::all_rank;
  }
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
