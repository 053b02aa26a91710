// A build without CUDA or without CUPTI.
#include "core/error.h"
#include "gpu_trace/session.h"

namespace deltacal::gpu_trace {

struct Session::State {};

Session::Session() {
  throw bad_input("a GPU trace needs a build with CUDA and CUPTI; this one has none");
}
Session::~Session() = default;

Trace Session::finish() {
  throw failure("a GPU trace was asked of a build without CUPTI");
}

void Scope::enter(Session&, int, std::string_view) {}
void Scope::leave() {}

}  // namespace deltacal::gpu_trace
