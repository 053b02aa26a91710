// A decoding step of a batch as a CUDA graph: what `bench` runs and times on a device.
#pragma once
#include <string>

#include "bench_timing.h"
#include "decode/policy.h"
#include "decode/step_graph.h"

namespace deltacal::tools {

struct Batch {
  int rows = 0, context = 0;  // context: positions that the step of each row sees
};
std::string in_words(const Batch&);  // "32 rows of 32768"

struct NamedPolicy {
  std::string name;
  decode::Policy policy;
};

// Every layer like this one; the first like this one and the others on its lists.
decode::Policy all_layers(int n_layers, const decode::LayerPolicy&);
decode::Policy one_delta(int n_layers, const decode::LayerPolicy& delta);

// A step, each row at the last position of its context.
void run(decode::StepGraph&, int context, bool recorded = false);

// Device time of the graph's launches.
Timing time_of(decode::StepGraph&, int context, int repeats);

}  // namespace deltacal::tools
