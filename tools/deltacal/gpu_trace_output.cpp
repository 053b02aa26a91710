#include "gpu_trace_output.h"

#include <cstdio>

#include "core/error.h"
#include "device_tables.h"
#include "gpu_trace/built.h"

namespace deltacal::tools {

void check_gpu_trace(const std::string& path, model::Device device) {
  if (path.empty()) return;
  if (device != model::Device::cuda)
    throw bad_input("--gpu-trace {}: the model runs on the CPU: use --device cuda", path);
  if (!gpu_trace::has_cupti()) throw bad_input("--gpu-trace {}: this build has no CUPTI", path);
}

GpuTraceOutput::GpuTraceOutput(std::string path, model::Device device, Existing existing)
    : path_(std::move(path)), existing_(existing) {
  check_gpu_trace(path_, device);
  if (path_.empty()) return;
  session_ = std::make_unique<gpu_trace::TraceSession>();
}

void GpuTraceOutput::finish() {
  if (!session_) return;
  const gpu_trace::Trace trace = session_->finish();
  write_file_atomically(path_, gpu_trace::chrome_json(trace), existing_);
  fmt::print(stderr, "{}", phase_table(trace));
  fmt::print(stderr, "GPU trace in {}\n", path_);
}

}  // namespace deltacal::tools
