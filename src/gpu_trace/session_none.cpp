// A build without CUDA or without CUPTI.
#include "core/error.h"
#include "gpu_trace/built.h"
#include "gpu_trace/counter_session.h"

namespace deltacal::gpu_trace {

bool has_cupti() {
  return false;
}

struct TraceSession::State {};

TraceSession::TraceSession() {
  throw bad_input("GPU trace: this build has no CUPTI");
}
TraceSession::~TraceSession() = default;
Trace TraceSession::finish() {
  throw failure("a GPU trace was asked of a build without CUPTI");
}
void TraceSession::enter(int, std::string_view) {}
void TraceSession::leave() {}

struct CounterSession::State {};

CounterSession::CounterSession() {
  throw bad_input("counters: this build has no CUPTI");
}
CounterSession::~CounterSession() = default;
Counters CounterSession::finish() {
  throw failure("counters were asked of a build without CUPTI");
}
void CounterSession::enter(int, std::string_view) {}
void CounterSession::leave() {}

}  // namespace deltacal::gpu_trace
