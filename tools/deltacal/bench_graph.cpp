#include "bench_graph.h"

#include <fmt/format.h>

#include <algorithm>

namespace deltacal::tools {

using decode::Attend;
using decode::StepGraph;

std::string in_words(const Batch& batch) {
  return fmt::format("{} row{} of {}", batch.rows, batch.rows == 1 ? "" : "s", batch.context);
}

decode::Policy all_layers(int n_layers, const decode::LayerPolicy& layer) {
  decode::Policy policy = decode::full_policy(n_layers);
  policy.position_bias = 1e-7;
  std::fill(policy.layers.begin(), policy.layers.end(), layer);
  return policy;
}

decode::Policy one_delta(int n_layers, const decode::LayerPolicy& delta) {
  decode::Policy policy = all_layers(n_layers, {Attend::list, delta.k_pages, 0});
  policy.layers[0] = delta;
  return policy;
}

void run(StepGraph& graph, int context, bool recorded) {
  const std::vector<int32_t> token(graph.n_rows(), 1), position(graph.n_rows(), context - 1);
  graph.run(token, position, recorded);
}

Timing time_of(StepGraph& graph, int context, int repeats) {
  run(graph, context);
  for (int i = 0; i < 3; ++i) graph.launch();
  graph.wait();
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) seconds.push_back(graph.timed_launch());
  return timing_of(std::move(seconds));
}

}  // namespace deltacal::tools
