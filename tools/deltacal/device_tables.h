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

// --counters as they can be had: "", "required" or "auto". Where the model does not run on a CUDA device, or
// the build has no CUPTI, bad_input if they are required; for "auto" a line on stderr, and "".
std::string settle_counters(const std::string& wanted, model::Device);

// --counters: the work is called with a session that counts, unless `wanted` is "". Where the device gives no
// counters, an Error if they are required; for "auto" a line on stderr, no counts, and `wanted` becomes "",
// so that nobody asks again. What `work` throws is thrown.
std::optional<gpu_trace::Counters> count(std::string& wanted,
                                         const std::function<void(gpu_trace::Session*)>& work);

}  // namespace deltacal::tools
