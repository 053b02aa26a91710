// `--gpu-trace`: what ran on the CUDA device, as a file and as a table.
#pragma once
#include <memory>
#include <string>

#include "core/files.h"
#include "gpu_trace/session.h"
#include "model/device.h"

namespace deltacal::tools {

// bad_input if the model does not run on a CUDA device, or the build has no CUPTI. Nothing where `path` is
// empty.
void check_gpu_trace(const std::string& path, model::Device);

class GpuTraceOutput {
 public:
  // Nothing where `path` is empty. Throws as check_gpu_trace() and gpu_trace::TraceSession do.
  GpuTraceOutput(std::string path, model::Device, Existing);
  gpu_trace::Session* session() const { return session_.get(); }
  // Writes the file, and the table to stderr.
  void finish();

 private:
  std::string path_;
  Existing existing_;
  std::unique_ptr<gpu_trace::TraceSession> session_;
};

}  // namespace deltacal::tools
