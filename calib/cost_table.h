// Measured times of the parts of a decoding step, and budgets in milliseconds made of them.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "calib/budget.h"
#include "config/schedule.h"
#include "core/files.h"
#include "core/provenance.h"

namespace deltacal::calib {

// Times in milliseconds of one step of `batch` sequences. A context is the number of positions that the step
// sees.
struct CostTable {
  std::string device;
  int batch = 1;
  std::vector<int> contexts;                   // ascending
  std::vector<int> k_pages;                    // ascending
  std::vector<double> full_ms;                 // [n_contexts] one layer's attention to all pages
  std::vector<double> delta_ms;                // [n_contexts] the same with page scores and selection
  std::vector<std::vector<double>> sparse_ms;  // [n_contexts][n_k] one layer's attention to k pages
  std::vector<double> other_ms;                // [n_contexts] the rest of the step, which no schedule changes
};

// Reads a JSON file:
//   {"format": "deltacal-cost-table", "schema_version": 1, "device": "...", "batch": 1, "contexts": [..],
//    "k_pages": [..], "full_ms": [..], "delta_ms": [..], "sparse_ms": [[..], ..], "other_ms": [..]}
// and, where deltacal measured it, the head of every artefact. bad_input with file and field for one that is
// missing, unknown, of another length or out of range.
CostTable read_cost_table(const std::string& path);
// The same file, as `bench` writes it.
void write_cost_table(const CostTable&, const std::string& path, Existing, const Provenance&);

// Between two measured contexts, and two measured k, times are interpolated linearly; each step's time is
// rounded up to a nanosecond. A layer that sees at most k pages costs what a full one does. bad_input, naming
// the range that the table covers, for a step or k outside of it.
//
// Nanoseconds of one layer, summed over the steps first..end-1 of each sequence.
LayerCosts layer_costs(const CostTable&, std::span<const config::StepRange>, std::span<const int> k_pages);

// Nanoseconds that all layers may take over those steps when a step takes `ms` in the mean: what remains
// after other_ms. bad_input if nothing does.
long long ms_budget(const CostTable&, std::span<const config::StepRange>, double ms);

}  // namespace deltacal::calib
