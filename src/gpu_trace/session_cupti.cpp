// The activity API. Its buffer callbacks carry no pointer of ours, and CUPTI knows one subscriber a process:
// hence the one active session.
//
// A launch outside a graph is named by an external correlation id, which CUPTI's record of the API call
// passes on. Nodes of a graph are named by a callback that runs within the call that makes them, on the
// capturing thread, and by another when instantiation copies them; kernels of a graph launch then come with
// the copy's id.
#include <cuda_runtime_api.h>
#include <cupti.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "core/error.h"
#include "gpu_trace/built.h"
#include "gpu_trace/raw.h"
#include "gpu_trace/session.h"
#include "gpu_trace/subscription.h"

namespace deltacal::gpu_trace {

bool has_cupti() {
  return true;
}

namespace {

constexpr size_t buffer_bytes = size_t(4) << 20;
constexpr CUpti_ExternalCorrelationKind external_kind = CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0;

// The records of API calls bring the external ids with them; they themselves are dropped.
constexpr CUpti_ActivityKind kinds[] = {
    CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION, CUPTI_ACTIVITY_KIND_DRIVER, CUPTI_ACTIVITY_KIND_RUNTIME,
    CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,    CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET};
constexpr CUpti_CallbackIdResource node_callbacks[] = {CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED,
                                                       CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED};

// Labels of the scopes that this thread is in.
thread_local std::vector<int> scopes;

void must(CUptiResult result, const char* what) {
  if (result != CUPTI_SUCCESS) throw failure("GPU trace: {} fails with {}", what, text_of(result));
}

const char* copy_name(uint8_t kind) {
  switch (kind) {
    case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD:
      return "memcpy host to device";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH:
      return "memcpy device to host";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOD:
      return "memcpy device to device";
    default:
      return "memcpy";
  }
}

// What the records of kernels, copies and sets have in common.
template <class Record>
RawRecord common(Kind kind, int name, const Record& r) {
  RawRecord record;
  record.event.kind = kind;
  record.event.name = name;
  record.event.start_ns = r.start, record.event.end_ns = r.end;
  record.event.device = r.deviceId, record.event.stream = r.streamId;
  record.event.graph = r.graphId, record.event.node = r.graphNodeId;
  record.correlation = r.correlationId;
  return record;
}

RawRecord of_kernel(Raw& raw, const CUpti_ActivityKernel10& r) {
  RawRecord record = common(Kind::kernel, raw.name_index(r.name ? r.name : "?"), r);
  const int grid[] = {r.gridX, r.gridY, r.gridZ}, block[] = {r.blockX, r.blockY, r.blockZ};
  std::copy_n(grid, 3, record.event.grid);
  std::copy_n(block, 3, record.event.block);
  return record;
}

}  // namespace

struct TraceSession::State {
  ~State() { stop(); }
  void start();
  void stop() noexcept;  // as far as it has started
  void take(const CUpti_Activity&);
  void take_buffer(uint8_t* buffer, size_t size);
  void name_node(CUpti_CallbackId, const CUpti_GraphData&);

  // CUPTI calls these, on threads of its own or within an API call. No exception leaves them.
  static void CUPTIAPI buffer_wanted(uint8_t** buffer, size_t* size, size_t* max_records);
  static void CUPTIAPI buffer_full(CUcontext, uint32_t stream, uint8_t* buffer, size_t size, size_t valid);
  static void CUPTIAPI called_back(void* state, CUpti_CallbackDomain, CUpti_CallbackId, const void* data);

  static inline std::atomic<State*> active{nullptr};
  // Two, because CUPTI may hold a lock of its own while it calls back, and wait for it where buffers are
  // read: no section under `naming` calls CUPTI.
  std::mutex reading;  // raw.names, records, launches, n_dropped
  std::mutex naming;   // raw.labels, nodes
  Raw raw;
  Subscription subscription;
  int n_enabled = 0;  // of `kinds`
};

void CUPTIAPI TraceSession::State::buffer_wanted(uint8_t** buffer, size_t* size, size_t* max_records) {
  *buffer = static_cast<uint8_t*>(std::aligned_alloc(8, buffer_bytes));
  *size = *buffer ? buffer_bytes : 0;
  *max_records = 0;  // as many as fit
}

void CUPTIAPI TraceSession::State::buffer_full(CUcontext context, uint32_t stream, uint8_t* buffer, size_t,
                                               size_t valid) {
  if (State* state = active.load()) {
    const std::lock_guard lock(state->reading);
    try {
      state->take_buffer(buffer, valid);
    } catch (const std::exception&) {
      ++state->raw.n_dropped;  // no memory
    }
    size_t dropped = 0;
    if (cuptiActivityGetNumDroppedRecords(context, stream, &dropped) == CUPTI_SUCCESS)
      state->raw.n_dropped += dropped;
  }
  std::free(buffer);
}

void TraceSession::State::take_buffer(uint8_t* buffer, size_t size) {
  CUpti_Activity* record = nullptr;
  while (size > 0 && cuptiActivityGetNextRecord(buffer, size, &record) == CUPTI_SUCCESS) take(*record);
}

void TraceSession::State::take(const CUpti_Activity& record) {
  switch (record.kind) {
    case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION: {
      const auto& r = reinterpret_cast<const CUpti_ActivityExternalCorrelation&>(record);
      if (r.externalKind == external_kind) raw.launches[r.correlationId] = int(r.externalId);
      break;
    }
    case CUPTI_ACTIVITY_KIND_KERNEL:
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL:
      raw.records.push_back(of_kernel(raw, reinterpret_cast<const CUpti_ActivityKernel10&>(record)));
      break;
    case CUPTI_ACTIVITY_KIND_MEMCPY: {
      const auto& r = reinterpret_cast<const CUpti_ActivityMemcpy6&>(record);
      raw.records.push_back(common(Kind::memcpy, raw.name_index(copy_name(r.copyKind)), r));
      raw.records.back().event.bytes = r.bytes;
      break;
    }
    case CUPTI_ACTIVITY_KIND_MEMSET: {
      const auto& r = reinterpret_cast<const CUpti_ActivityMemset4&>(record);
      raw.records.push_back(common(Kind::memset, raw.name_index("memset"), r));
      raw.records.back().event.bytes = r.bytes;
      break;
    }
    default:
      break;
  }
}

void CUPTIAPI TraceSession::State::called_back(void* state, CUpti_CallbackDomain domain, CUpti_CallbackId id,
                                               const void* data) {
  if (domain != CUPTI_CB_DOMAIN_RESOURCE) return;
  const auto* resource = static_cast<const CUpti_ResourceData*>(data);
  const auto* graph = static_cast<const CUpti_GraphData*>(resource->resourceDescriptor);
  if (graph) static_cast<State*>(state)->name_node(id, *graph);
}

void TraceSession::State::name_node(CUpti_CallbackId id, const CUpti_GraphData& graph) {
  uint64_t node = 0, original = 0;
  if (cuptiGetGraphNodeId(graph.node, &node) != CUPTI_SUCCESS) return;
  const bool is_copy = id == CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED;
  if (is_copy && cuptiGetGraphNodeId(graph.originalNode, &original) != CUPTI_SUCCESS) return;
  const std::lock_guard lock(naming);
  try {
    if (is_copy) {
      raw.nodes.cloned(original, node);
    } else {
      raw.nodes.created(node, scopes.empty() ? -1 : scopes.back());
    }
  } catch (const std::exception&) {  // no memory: the node stays without a name
  }
}

void TraceSession::State::start() {
  State* none = nullptr;
  if (!active.compare_exchange_strong(none, this)) throw failure("GPU trace: another session is active");
  subscription.begin("GPU trace", &State::called_back, this);
  must(cuptiActivityRegisterCallbacks(&State::buffer_wanted, &State::buffer_full),
       "cuptiActivityRegisterCallbacks");
  for (const CUpti_CallbackIdResource id : node_callbacks)
    must(cuptiEnableCallback(1, subscription.handle(), CUPTI_CB_DOMAIN_RESOURCE, id), "cuptiEnableCallback");
  for (const CUpti_ActivityKind kind : kinds) {
    must(cuptiActivityEnable(kind), "cuptiActivityEnable");
    ++n_enabled;
  }
}

void TraceSession::State::stop() noexcept {
  State* self = this;
  for (; n_enabled > 0; --n_enabled) cuptiActivityDisable(kinds[n_enabled - 1]);
  if (subscription.handle()) cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
  subscription.end();
  active.compare_exchange_strong(self, nullptr);
}

TraceSession::TraceSession() : state_(std::make_unique<State>()) {
  state_->start();
}

TraceSession::~TraceSession() = default;

Trace TraceSession::finish() {
  if (!state_) throw failure("GPU trace: this session has ended");
  if (const cudaError_t error = cudaDeviceSynchronize(); error != cudaSuccess)
    throw failure("GPU trace: the device reports {}", cudaGetErrorString(error));
  must(cuptiActivityFlushAll(0), "cuptiActivityFlushAll");
  state_->stop();
  const std::unique_ptr<State> ended = std::move(state_);
  const std::scoped_lock lock(ended->reading, ended->naming);
  return attribute(std::move(ended->raw));
}

void TraceSession::enter(int layer, std::string_view phase) {
  if (!state_) return;
  int label = 0;
  {
    const std::lock_guard lock(state_->naming);
    label = state_->raw.label_index(layer, phase);
  }
  scopes.push_back(label);
  cuptiActivityPushExternalCorrelationId(external_kind, uint64_t(label));
}

void TraceSession::leave() {
  if (!state_) return;
  uint64_t label = 0;
  cuptiActivityPopExternalCorrelationId(external_kind, &label);
  scopes.pop_back();
}

}  // namespace deltacal::gpu_trace
