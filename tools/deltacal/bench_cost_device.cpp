#include <fmt/format.h>

#include <algorithm>

#include "bench_device.h"
#include "core/pages.h"
#include "decode/device_info.h"

namespace deltacal::tools {

using decode::Attend;
using decode::StepGraph;

calib::CostTable measure_costs_on_device(const model::Model& model, int rows,
                                         const std::vector<int>& contexts, const std::vector<int>& k_pages,
                                         int repeats) {
  const int n = model.info().n_layers;
  decode::KvCache cache(model, rows, contexts.back());
  cache.fill_random(0);
  // Milliseconds of a step by context.
  const auto steps = [&](const decode::Policy& policy, StepGraph::Part part) {
    StepGraph graph(model, cache, policy, rows, part);
    std::vector<double> ms;
    for (const int context : contexts) ms.push_back(1e3 * time_of(graph, context, repeats).median);
    return ms;
  };
  const auto full = decode::full_policy(n);
  calib::CostTable table;
  table.device =
      fmt::format("{}, {} in {}", decode::device_info().name, model.info().name, model.info().dtype);
  table.batch = rows;
  table.contexts = contexts;
  table.k_pages = k_pages;
  table.other_ms = steps(full, StepGraph::Part::without_attention);
  const auto a_layer = [&](const std::vector<double>& whole) {
    std::vector<double> ms;
    for (size_t c = 0; c < contexts.size(); ++c)
      ms.push_back(std::max(0.0, (whole[c] - table.other_ms[c]) / n));
    return ms;
  };
  table.full_ms = a_layer(steps(full, StepGraph::Part::step));
  table.delta_ms =
      a_layer(steps(all_layers(n, {Attend::all_rank, k_pages.back(), 1}), StepGraph::Part::step));
  table.sparse_ms.resize(contexts.size());
  for (const int k : k_pages) {
    const std::vector<double> whole = steps(one_delta(n, {Attend::all_rank, k, 1}), StepGraph::Part::step);
    for (size_t c = 0; c < contexts.size(); ++c) {
      const double rest = whole[c] - table.other_ms[c] - table.delta_ms[c];
      table.sparse_ms[c].push_back(k >= pages_for(contexts[c]) ? table.full_ms[c]
                                                               : std::max(0.0, rest / std::max(1, n - 1)));
    }
  }
  return table;
}

}  // namespace deltacal::tools
