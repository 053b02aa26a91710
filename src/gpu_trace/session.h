// Watching what runs on the GPU. There is no session unless someone makes one, and code that names its work
// (Scope) does nothing without one.
#pragma once
#include <memory>
#include <string_view>

#include "gpu_trace/trace.h"

namespace deltacal::gpu_trace {

// Gets the names that Scope gives.
class Session {
 public:
  virtual ~Session() = default;

 private:
  friend class Scope;
  virtual void enter(int layer, std::string_view phase) = 0;
  virtual void leave() = 0;
};

// Records what runs and when, through CUPTI's activity records.
class TraceSession : public Session {
 public:
  // Starts. Before the graphs to be traced are captured: their nodes are named while they are made. Throws
  // Error where the build has no CUDA, no device is there, or another profiler holds CUPTI, which is named.
  TraceSession();
  ~TraceSession() override;  // ends, if finish() did not
  TraceSession(const TraceSession&) = delete;
  TraceSession& operator=(const TraceSession&) = delete;

  // Waits for the device and ends. Throws if CUPTI fails, and at a second call. No scope is open.
  Trace finish();

 private:
  void enter(int layer, std::string_view phase) override;
  void leave() override;
  struct State;
  std::unique_ptr<State> state_;
};

// Work that this thread launches, or captures into a graph, while this lives belongs to a layer (-1: none)
// and phase. The innermost one counts. Costs a comparison where `session` is null.
class Scope {
 public:
  Scope(Session* session, int layer, std::string_view phase) : session_(session) {
    if (session_) session_->enter(layer, phase);
  }
  ~Scope() {
    if (session_) session_->leave();
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  Session* session_;
};

}  // namespace deltacal::gpu_trace
