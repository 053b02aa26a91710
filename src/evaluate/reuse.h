// Where a policy's run can begin: layers whose output is the same as in another run need not be computed
// again.
#pragma once
#include <span>
#include <vector>

#include "decode/policy.h"

namespace deltacal::evaluate {

// The first layer to compute under `policy`, given the hidden states of a run under `other` on the same rows:
// below it every layer gives the same output in both, and no layer from it on needs a list made
// below it. At most the last layer, whose own output nobody keeps.
int first_layer(const decode::Policy& policy, const decode::Policy& other);

struct Reuse {
  int run = -1;  // the run whose hidden states are taken: an index before its own, or -1, full attention
  int first_layer = 0;  // computed from here on
};

// For each policy the earlier run, or the full one, that leaves the fewest layers to compute. `only_full`: no
// other run, so that every sparse layer of every policy is computed.
std::vector<Reuse> plan_reuse(std::span<const decode::Policy> policies, bool only_full);

}  // namespace deltacal::evaluate
