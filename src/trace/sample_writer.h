// What Writer::begin needs to make a SampleWriter.
#pragma once
#include <memory>
#include <string>

#include "core/error.h"
#include "trace/hdf5.h"
#include "trace/layer_rows.h"
#include "trace/trace.h"

namespace deltacal::trace {

struct SampleWriter::Impl {
  // Creates `temporary` with the datasets of `plan`; finish() renames it to `path`.
  Impl(std::string path, std::string temporary, const SamplePlan&, const ModelInfo&, const Provenance&,
       const std::string& options, const FilterThreads&);
  ~Impl();  // removes the file unless it was finished

  std::string path, temporary;
  SamplePlan plan;
  int n_layers, n_kv_heads, max_pages;
  int sensitivity_steps = -1;  // -1: none were written
  std::vector<int> list_steps = {};  // of each ranking whose lists a signal decides
  bool finished = false;
  FilterThreads threads;
  h5::Output file;
  h5::Id group;
  LayerRows<float> score;          // [n_layers, S, U]
  LayerRows<uint16_t> mass;        // [n_layers, S, U]
  LayerRows<uint16_t> group_mass;  // [n_layers, S, n_kv_heads, U]; only if planned
};

// Runs `write`; a Fault in it becomes a failure that says what to do.
template <class F>
void writing(const std::string& path, F&& write) {
  try {
    write();
  } catch (const h5::Fault& fault) {
    throw failure(
        "cannot write {}: {}. Finished samples are kept: see that there is space and run again with "
        "--resume.",
        path, fault.what());
  }
}

}  // namespace deltacal::trace
