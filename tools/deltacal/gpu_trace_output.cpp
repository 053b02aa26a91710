#include "gpu_trace_output.h"

#include <cstdio>

#include "core/error.h"
#include "device_tables.h"

namespace deltacal::tools {

void check_gpu_trace(const std::string& path, model::Device device) {
  if (path.empty()) return;
  require_free_output(path, Existing::refuse);
  if (device != model::Device::cuda)
    throw bad_input("--gpu-trace {}: the model runs on the CPU: use --device cuda", path);
}

GpuTraceOutput::GpuTraceOutput(std::string path, model::Device device) : path_(std::move(path)) {
  check_gpu_trace(path_, device);
  if (path_.empty()) return;
  session_ = std::make_unique<gpu_trace::TraceSession>();
}

void GpuTraceOutput::finish() {
  if (!session_) return;
  const gpu_trace::Trace trace = session_->finish();
  write_file_atomically(path_, gpu_trace::chrome_json(trace), Existing::refuse);
  fmt::print(stderr, "{}", phase_table(trace));
  fmt::print(stderr, "GPU trace in {}\n", path_);
}

}  // namespace deltacal::tools
