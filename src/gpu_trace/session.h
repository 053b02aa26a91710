// Records what runs on the GPU, through CUPTI's activity records. There is none unless someone makes one, and
// code that names its work (Scope) does nothing without one.
#pragma once
#include <memory>
#include <string_view>

#include "gpu_trace/trace.h"

namespace deltacal::gpu_trace {

class Session {
 public:
  // Starts. Before the graphs to be traced are captured: their nodes are named while they are made. Throws
  // Error where the build has no CUDA, no device is there, or another profiler holds CUPTI, which is named.
  Session();
  ~Session();  // ends, if finish() did not
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Waits for the device and ends. Throws if CUPTI fails, and at a second call.
  Trace finish();

 private:
  friend class Scope;
  struct State;
  std::unique_ptr<State> state_;
};

// Work that this thread launches, or captures into a graph, while this lives belongs to a layer (-1: none)
// and phase. The innermost one counts. Costs a comparison where `session` is null.
class Scope {
 public:
  Scope(Session* session, int layer, std::string_view phase) {
    if (session) enter(*session, layer, phase);
  }
  ~Scope() {
    if (entered_) leave();
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  void enter(Session&, int layer, std::string_view phase);
  void leave();
  bool entered_ = false;
};

}  // namespace deltacal::gpu_trace
