#include "gpu_trace_output.h"

#include <algorithm>
#include <cstdio>

#include "core/error.h"

namespace deltacal::tools {

GpuTraceOutput::GpuTraceOutput(std::string path, const model::Model& model) : path_(std::move(path)) {
  if (path_.empty()) return;
  require_free_output(path_, Existing::refuse);
  if (model.device() != model::Device::cuda)
    throw bad_input("--gpu-trace {}: the model runs on the CPU: use --device cuda", path_);
  session_ = std::make_unique<gpu_trace::Session>();
}

void GpuTraceOutput::finish() {
  if (!session_) return;
  const gpu_trace::Trace trace = session_->finish();
  write_file_atomically(path_, gpu_trace::chrome_json(trace), Existing::refuse);
  const gpu_trace::Times times = time_by_phase(trace);
  fmt::print(stderr, "{:<26} {:>9} {:>10} {:>7}\n", "phase", "events", "busy, ms", "share");
  for (const auto& phase : times.phases)
    fmt::print(stderr, "{:<26} {:>9} {:>10.3f} {:>6.1f}%\n", phase.phase.empty() ? "(none)" : phase.phase,
               phase.n_events, 1e-6 * double(phase.busy_ns),
               100.0 * double(phase.busy_ns) / double(std::max<uint64_t>(1, times.busy_ns)));
  fmt::print(stderr, "{:<26} {:>9} {:>10.3f} of {:.3f} ms from the first to the last\n", "all",
             trace.events.size(), 1e-6 * double(times.busy_ns), 1e-6 * double(times.span_ns));
  if (trace.n_dropped > 0)
    fmt::print(stderr, "{} records were lost: the table is short of them\n", trace.n_dropped);
  fmt::print(stderr, "GPU trace in {}\n", path_);
}

}  // namespace deltacal::tools
