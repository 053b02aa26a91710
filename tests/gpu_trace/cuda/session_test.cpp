// Sessions on a GPU: what CUPTI reports is attributed as it should be, directly and under replay of a graph.
#include <catch2/catch_test_macros.hpp>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "gpu_trace/session.h"
#include "refusals.h"
#include "work.h"

namespace deltacal::gpu_trace {
namespace {

namespace cuda = kernels::cuda;

// Events by kind, layer and phase.
std::map<std::string, int> counts(const Trace& trace) {
  std::map<std::string, int> n;
  for (const Event& e : trace.events) {
    const std::string kind = e.kind == Kind::kernel ? "kernel" : e.kind == Kind::memset ? "memset" : "memcpy";
    const Label none, &label = e.label < 0 ? none : trace.labels[size_t(e.label)];
    ++n[fmt::format("{} {} {}", kind, label.layer, label.phase)];
  }
  return n;
}

TEST_CASE("gpu trace, session: without a device it is refused") {
  require_refused_without_device<TraceSession>();
}

TEST_CASE("gpu trace, session: launches have the layer and phase of the innermost scope") {
  if (cuda::device_count() == 0) SKIP("no CUDA device");
  Work work;
  work.kernel();  // before the session
  TraceSession session;
  work.memset();
  {
    const Scope outer(&session, 3, "attention");
    work.kernel();
    {
      const Scope inner(&session, -1, "sampling");
      work.kernel();
      work.memset();
    }
    work.kernel();
  }
  const Trace trace = session.finish();
  REQUIRE(counts(trace) == std::map<std::string, int>{{"kernel 3 attention", 2},
                                                      {"kernel -1 sampling", 1},
                                                      {"memset -1 sampling", 1},
                                                      {"memset -1 ", 1}});
  REQUIRE(trace.n_dropped == 0);
  for (const Event& e : trace.events) {
    REQUIRE(e.end_ns > e.start_ns);
    if (e.kind == Kind::kernel)
      REQUIRE(trace.names[size_t(e.name)].find("record_scores") != std::string::npos);
  }
  REQUIRE(nlohmann::json::parse(chrome_json(trace))["traceEvents"].size() >= trace.events.size());
  REQUIRE_THROWS_AS(session.finish(), Error);
}

TEST_CASE("gpu trace, session: kernels of a replayed graph keep the layer and phase of their capture") {
  if (cuda::device_count() == 0) SKIP("no CUDA device");
  Work work;
  work.kernel();
  TraceSession session;
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  must(cudaStreamBeginCapture(work.stream, cudaStreamCaptureModeGlobal));
  for (int layer = 0; layer < 4; ++layer) {
    const Scope scope(&session, layer, layer % 2 ? "sparse attention" : "attention");
    work.kernel();
  }
  work.kernel();  // outside
  must(cudaStreamEndCapture(work.stream, &graph));
  must(cudaGraphInstantiate(&executable, graph, 0));
  {
    const Scope scope(&session, 9, "not of the nodes");
    for (int i = 0; i < 3; ++i) must(cudaGraphLaunch(executable, work.stream));
  }
  const Trace trace = session.finish();
  must(cudaGraphExecDestroy(executable));
  must(cudaGraphDestroy(graph));
  REQUIRE(counts(trace) == std::map<std::string, int>{{"kernel 0 attention", 3},
                                                      {"kernel 1 sparse attention", 3},
                                                      {"kernel 2 attention", 3},
                                                      {"kernel 3 sparse attention", 3},
                                                      {"kernel -1 ", 3}});
}

TEST_CASE("gpu trace, session: another profiler is named, and a session may follow it") {
  if (cuda::device_count() == 0) SKIP("no CUDA device");
  Work work;
  require_other_profiler_named<TraceSession>();
  TraceSession session;
  work.kernel();
  REQUIRE(counts(session.finish()) == std::map<std::string, int>{{"kernel -1 ", 1}});
}

}  // namespace
}  // namespace deltacal::gpu_trace
