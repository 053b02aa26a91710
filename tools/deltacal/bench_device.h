// `bench` on a CUDA device: decoding steps of batches as CUDA graphs, and the parts of a step.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "bench_graph.h"
#include "calib/cost_table.h"
#include "config/config.h"
#include "inputs.h"
#include "options.h"

namespace deltacal::tools {

// "32x32768"; bad_input for another form, and beyond the model's context.
std::vector<Batch> parse_batches(const std::vector<std::string>&, int max_context);

// Makes or loads the model, unless memory does not suffice for what is to be measured. Returns the exit
// status.
int bench_on_device(const BenchOptions&, const Inputs&, const std::optional<config::Config>&,
                    const std::vector<Batch>&);

// The parts of a step of `rows` sequences that see `context` positions, each in its place in the step's
// graph: what a step takes longer with all layers full, all ranking, or all but the first sparse, than
// without any attention. Random keys and values. Contexts and K ascend.
calib::CostTable measure_costs_on_device(const model::Model&, int rows, const std::vector<int>& contexts,
                                         const std::vector<int>& k_pages, int repeats);

}  // namespace deltacal::tools
