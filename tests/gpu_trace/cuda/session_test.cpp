// Sessions on a GPU: what CUPTI reports is attributed as it should be, directly and under replay of a graph.
#include <cupti.h>

#include <catch2/catch_test_macros.hpp>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "gpu_trace/session.h"
#include "kernels/record_scores/cuda.h"

namespace deltacal::gpu_trace {
namespace {

namespace cuda = kernels::cuda;

void must(cudaError_t error) {
  if (error != cudaSuccess) FAIL(cudaGetErrorString(error));
}

// Some kernel to launch: page scores of 16 rows over zeros.
class Work {
 public:
  Work() {
    must(cudaStreamCreate(&stream));
    must(cudaMalloc(&memory_, bytes));
    must(cudaMemset(memory_, 0, bytes));
    must(cudaDeviceSynchronize());
    char* at = static_cast<char*>(memory_);
    p_.n_rows = 16, p_.n_heads = 2, p_.n_kv_heads = 1, p_.head_dim = 64, p_.n_keys = 64, p_.scale = 1;
    p_.q = at, p_.keys = at, p_.lse = reinterpret_cast<float*>(at),
    p_.position = reinterpret_cast<int32_t*>(at);
    p_.key_token_stride = 64, p_.key_head_stride = 64, p_.out_pages = 4;
    p_.score = reinterpret_cast<float*>(at + bytes / 2);
  }
  ~Work() {
    cudaFree(memory_);
    cudaStreamDestroy(stream);
  }
  void kernel() { cuda::record_scores::run(p_, {stream, false}); }
  void memset() { must(cudaMemsetAsync(static_cast<char*>(memory_) + bytes / 2, 0, 256, stream)); }

  cudaStream_t stream = nullptr;

 private:
  static constexpr size_t bytes = 1 << 16;
  void* memory_ = nullptr;
  cuda::record_scores::Params p_;
};

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
  if (cuda::device_count() > 0) SKIP("there is a device");
  try {
    Session session;
    FAIL("it started");
  } catch (const Error& e) {
    REQUIRE(e.status() == Status::bad_input);
    REQUIRE(std::string(e.what()).find("no CUDA device") != std::string::npos);
  }
}

TEST_CASE("gpu trace, session: launches have the layer and phase of the innermost scope") {
  if (cuda::device_count() == 0) SKIP("no CUDA device");
  Work work;
  work.kernel();  // before the session
  Session session;
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
  Session session;
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

void CUPTIAPI nothing(void*, CUpti_CallbackDomain, CUpti_CallbackId, const void*) {}

TEST_CASE("gpu trace, session: another profiler is named, and a session may follow it") {
  if (cuda::device_count() == 0) SKIP("no CUDA device");
  Work work;
  CUpti_SubscriberParams params{};
  params.structSize = CUpti_SubscriberParams_STRUCT_SIZE;
  params.subscriberName = "rival";
  CUpti_SubscriberHandle rival;
  REQUIRE(cuptiSubscribe_v2(&rival, nothing, nullptr, &params) == CUPTI_SUCCESS);
  try {
    Session session;
    FAIL("it started");
  } catch (const Error& e) {
    INFO(e.what());
    REQUIRE(std::string(e.what()).find("rival") != std::string::npos);
  }
  REQUIRE(cuptiUnsubscribe(rival) == CUPTI_SUCCESS);
  Session session;
  work.kernel();
  REQUIRE(counts(session.finish()) == std::map<std::string, int>{{"kernel -1 ", 1}});
}

}  // namespace
}  // namespace deltacal::gpu_trace
