// The parts of a decoding step, timed apart: what a budget in milliseconds is made of.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "calib/cost_table.h"
#include "model/model.h"

namespace deltacal::tools {

// Medians of `repeats` for one sequence of `ids`, which fills the cache once with the model's own keys and
// values; a context is that many first positions of it. `ids` has the length of the longest context; both
// lists ascend.
//
// An attention time is that of one pass over all layers, with each layer's own queries and page lists,
// divided by their number. Before each pass the last-level cache is swept, so that every layer finds its keys
// and values in memory, where the weights of a decoding step leave them. `other` is a whole step under full
// attention less the full attention of all layers (0 where the step's noise exceeds it).
calib::CostTable measure_costs(const model::Model&, std::span<const int32_t> ids,
                               const std::vector<int>& contexts, const std::vector<int>& k_pages,
                               int repeats);

}  // namespace deltacal::tools
