// `--gpu-trace`: what ran on the CUDA device, as a file and as a table.
#pragma once
#include <memory>
#include <string>

#include "core/files.h"
#include "gpu_trace/session.h"
#include "model/model.h"

namespace deltacal::tools {

class GpuTraceOutput {
 public:
  // Nothing where `path` is empty. bad_input if the file is there, or the model is not on a CUDA device;
  // Error where another profiler holds CUPTI.
  GpuTraceOutput(std::string path, const model::Model&);
  gpu_trace::Session* session() const { return session_.get(); }
  // Writes the file, and the table to stderr.
  void finish();

 private:
  std::string path_;
  std::unique_ptr<gpu_trace::Session> session_;
};

}  // namespace deltacal::tools
