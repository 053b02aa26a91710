// What sessions on a CUDA device found, as Markdown tables and for JSON files.
#pragma once
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "gpu_trace/counters.h"
#include "gpu_trace/session.h"
#include "model/device.h"

namespace deltacal::tools {

// | phase | events | busy, ms | share |, the busiest first, and all together.
std::string phase_table(const gpu_trace::Trace&);
nlohmann::ordered_json phases_json(const gpu_trace::Trace&);

// | phase | kernel | calls | ms | MB read | MB written | GB/s read | of read bandwidth |, the longest first,
// and all together. `read_gb_s`: the memory's read bandwidth as measured in this run.
std::string counter_table(const gpu_trace::Counters&, double read_gb_s);
nlohmann::ordered_json counters_json(const gpu_trace::Counters&, double read_gb_s);

// --counters: "", "required" or "auto". bad_input if they are required of a model that does not run on a CUDA
// device.
void check_counters(const std::string& wanted, model::Device);

// --counters: the work is called with a session that counts. Where counters cannot be had, an Error if
// `wanted` is "required"; if it is "auto", a line on stderr and no counts.
std::optional<gpu_trace::Counters> count(const std::string& wanted,
                                         const std::function<void(gpu_trace::Session*)>& work);

}  // namespace deltacal::tools
