// The range profiler, with one range a kernel. Ranges have no names of ours: the n-th is the n-th launch,
// whose name and label a callback notes on the launching thread. The metrics fit into one pass of the
// hardware on the devices seen, so that nothing need be run twice; where they do not, CUPTI replays each
// kernel, for which it saves and restores memory.
#include <cuda_runtime_api.h>
#include <cupti.h>
#include <cupti_profiler_host.h>
#include <cupti_range_profiler.h>
#include <cupti_target.h>

#include <array>
#include <vector>

#include "core/error.h"
#include "gpu_trace/counter_session.h"
#include "gpu_trace/raw.h"
#include "gpu_trace/subscription.h"

namespace deltacal::gpu_trace {
namespace {

constexpr const char* metrics[] = {"gpu__time_duration.sum", "dram__bytes_read.sum", "dram__bytes_write.sum"};
constexpr size_t n_metrics = std::size(metrics);

// Room for ranges, and launches after which it is emptied when the next scope opens.
constexpr size_t max_ranges = 4096, full_at = 2048;

constexpr CUpti_CallbackId launches[] = {CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel,
                                         CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel_ptsz,
                                         CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx,
                                         CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx_ptsz,
                                         CUPTI_DRIVER_TRACE_CBID_cuLaunchCooperativeKernel,
                                         CUPTI_DRIVER_TRACE_CBID_cuLaunchCooperativeKernel_ptsz,
                                         CUPTI_DRIVER_TRACE_CBID_cuGraphLaunch,
                                         CUPTI_DRIVER_TRACE_CBID_cuGraphLaunch_ptsz};

// Labels of the scopes that this thread is in.
thread_local std::vector<int> scopes;

// What went wrong, and what to do.
Error refused(CUptiResult result, const char* what) {
  switch (result) {
    case CUPTI_ERROR_INSUFFICIENT_PRIVILEGES:
    case CUPTI_ERROR_VIRTUALIZED_DEVICE_INSUFFICIENT_PRIVILEGES:
      return failure(
          "counters: the driver shows them to administrators alone ({}): run as root, or load the kernel "
          "module "
          "nvidia with NVreg_RestrictProfilingToAdminUsers=0",
          text_of(result));
    case CUPTI_ERROR_HARDWARE_BUSY:
      return failure("counters: another profiler holds the device's counters ({}): run when it has ended",
                     text_of(result));
    case CUPTI_ERROR_NOT_SUPPORTED:
    case CUPTI_ERROR_VIRTUALIZED_DEVICE_NOT_SUPPORTED:
    case CUPTI_ERROR_CONFIDENTIAL_COMPUTING_NOT_SUPPORTED:
    case CUPTI_ERROR_CMP_DEVICE_NOT_SUPPORTED:
    case CUPTI_ERROR_MIG_DEVICE_NOT_SUPPORTED:
    case CUPTI_ERROR_SLI_DEVICE_NOT_SUPPORTED:
    case CUPTI_ERROR_WSL_DEVICE_NOT_SUPPORTED:
    case CUPTI_ERROR_INVALID_CHIP_NAME:
    case CUPTI_ERROR_INVALID_METRIC_NAME:
      return failure(
          "counters: this device, or the way it is shared, gives none ({}): run without --counters",
          text_of(result));
    default:
      return failure("counters: {} fails with {}", what, text_of(result));
  }
}
void must(CUptiResult result, const char* what) {
  if (result != CUPTI_SUCCESS) throw refused(result, what);
}

// A parameter structure of CUPTI's, zero but for its size.
template <class Params>
Params sized(size_t size) {
  Params p{};
  p.structSize = size;
  return p;
}
#define SIZED(type) sized<type>(type##_STRUCT_SIZE)

// libcuda is not linked: programs start where there is no driver.
CUcontext current_context() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  CUcontext context = nullptr;
  cudaFree(nullptr);  // makes the context
  if (cudaGetDriverEntryPointByVersion("cuCtxGetCurrent", &function, 12000, cudaEnableDefault, &found) !=
          cudaSuccess ||
      found != cudaDriverEntryPointSuccess ||
      reinterpret_cast<CUresult (*)(CUcontext*)>(function)(&context) != CUDA_SUCCESS || !context)
    throw failure("counters: the CUDA driver gives no context");
  return context;
}

}  // namespace

struct CounterSession::State {
  ~State() { stop(); }
  void start();
  void stop() noexcept;  // as far as it has started
  void configure(CUcontext);
  void begin_ranges();
  void end_ranges();  // their counts into `counted`
  std::array<double, n_metrics> values_of(size_t range) const;
  static void CUPTIAPI called_back(void* state, CUpti_CallbackDomain, CUpti_CallbackId, const void* data);

  struct Launch {
    int name, label;  // indices of raw.names and raw.labels
  };
  Subscription subscription;
  CUpti_Profiler_Host_Object* host = nullptr;
  CUpti_RangeProfiler_Object* profiler = nullptr;
  std::vector<uint8_t> config, image;
  bool counting = false;
  Raw raw;
  std::vector<Launch> launched;  // since begin_ranges()
  Counters counted;
};

void CUPTIAPI CounterSession::State::called_back(void* data, CUpti_CallbackDomain domain, CUpti_CallbackId,
                                                 const void* info) {
  auto* state = static_cast<State*>(data);
  const auto* call = static_cast<const CUpti_CallbackData*>(info);
  if (domain != CUPTI_CB_DOMAIN_DRIVER_API || call->callbackSite != CUPTI_API_ENTER || !state->counting)
    return;
  try {
    const int name = state->raw.name_index(call->symbolName ? call->symbolName : "graph");
    state->launched.push_back({name, scopes.empty() ? -1 : scopes.back()});
  } catch (const std::exception&) {  // no memory: end_ranges() finds that one is missing
  }
}

void CounterSession::State::start() {
  subscription.begin("counters", &State::called_back, this);
  auto initialize = SIZED(CUpti_Profiler_Initialize_Params);
  must(cuptiProfilerInitialize(&initialize), "cuptiProfilerInitialize");
  const CUcontext context = current_context();
  configure(context);
  auto enable = SIZED(CUpti_RangeProfiler_Enable_Params);
  enable.ctx = context;
  must(cuptiRangeProfilerEnable(&enable), "cuptiRangeProfilerEnable");
  profiler = enable.pRangeProfilerObject;
  auto size = SIZED(CUpti_RangeProfiler_GetCounterDataSize_Params);
  size.pRangeProfilerObject = profiler;
  size.pMetricNames = const_cast<const char**>(metrics);
  size.numMetrics = n_metrics;
  size.maxNumOfRanges = max_ranges;
  size.maxNumRangeTreeNodes = max_ranges;
  must(cuptiRangeProfilerGetCounterDataSize(&size), "cuptiRangeProfilerGetCounterDataSize");
  image.resize(size.counterDataSize);
  for (const CUpti_CallbackId id : launches)
    must(cuptiEnableCallback(1, subscription.handle(), CUPTI_CB_DOMAIN_DRIVER_API, id),
         "cuptiEnableCallback");
  begin_ranges();
}

// The metrics in the terms of this device's counters.
void CounterSession::State::configure(CUcontext context) {
  int device = 0;
  cudaGetDevice(&device);
  auto supported = SIZED(CUpti_Profiler_DeviceSupported_Params);
  supported.cuDevice = device;
  supported.api = CUPTI_PROFILER_RANGE_PROFILING;
  must(cuptiProfilerDeviceSupported(&supported), "cuptiProfilerDeviceSupported");
  if (supported.isSupported != CUPTI_PROFILER_CONFIGURATION_SUPPORTED)
    throw refused(CUPTI_ERROR_NOT_SUPPORTED, "cuptiProfilerDeviceSupported");
  auto chip = SIZED(CUpti_Device_GetChipName_Params);
  chip.deviceIndex = size_t(device);
  must(cuptiDeviceGetChipName(&chip), "cuptiDeviceGetChipName");

  auto available = SIZED(CUpti_Profiler_GetCounterAvailability_Params);
  available.ctx = context;
  must(cuptiProfilerGetCounterAvailability(&available), "cuptiProfilerGetCounterAvailability");
  std::vector<uint8_t> availability(available.counterAvailabilityImageSize);
  available.pCounterAvailabilityImage = availability.data();
  must(cuptiProfilerGetCounterAvailability(&available), "cuptiProfilerGetCounterAvailability");

  auto initialize = SIZED(CUpti_Profiler_Host_Initialize_Params);
  initialize.profilerType = CUPTI_PROFILER_TYPE_RANGE_PROFILER;
  initialize.pChipName = chip.pChipName;
  initialize.pCounterAvailabilityImage = availability.data();
  must(cuptiProfilerHostInitialize(&initialize), "cuptiProfilerHostInitialize");
  host = initialize.pHostObject;
  auto add = SIZED(CUpti_Profiler_Host_ConfigAddMetrics_Params);
  add.pHostObject = host;
  add.ppMetricNames = const_cast<const char**>(metrics);
  add.numMetrics = n_metrics;
  must(cuptiProfilerHostConfigAddMetrics(&add), "cuptiProfilerHostConfigAddMetrics");
  auto size = SIZED(CUpti_Profiler_Host_GetConfigImageSize_Params);
  size.pHostObject = host;
  must(cuptiProfilerHostGetConfigImageSize(&size), "cuptiProfilerHostGetConfigImageSize");
  config.resize(size.configImageSize);
  auto get = SIZED(CUpti_Profiler_Host_GetConfigImage_Params);
  get.pHostObject = host;
  get.configImageSize = config.size();
  get.pConfigImage = config.data();
  must(cuptiProfilerHostGetConfigImage(&get), "cuptiProfilerHostGetConfigImage");
  auto passes = SIZED(CUpti_Profiler_Host_GetNumOfPasses_Params);
  passes.configImageSize = config.size();
  passes.pConfigImage = config.data();
  must(cuptiProfilerHostGetNumOfPasses(&passes), "cuptiProfilerHostGetNumOfPasses");
  counted.n_runs = passes.numOfPasses;
}

void CounterSession::State::begin_ranges() {
  auto clear = SIZED(CUpti_RangeProfiler_CounterDataImage_Initialize_Params);
  clear.pRangeProfilerObject = profiler;
  clear.counterDataSize = image.size();
  clear.pCounterData = image.data();
  must(cuptiRangeProfilerCounterDataImageInitialize(&clear), "cuptiRangeProfilerCounterDataImageInitialize");
  auto set = SIZED(CUpti_RangeProfiler_SetConfig_Params);
  set.pRangeProfilerObject = profiler;
  set.configSize = config.size();
  set.pConfig = config.data();
  set.counterDataImageSize = image.size();
  set.pCounterDataImage = image.data();
  set.range = CUPTI_AutoRange;
  set.replayMode = counted.n_runs == 1 ? CUPTI_UserReplay : CUPTI_KernelReplay;
  set.maxRangesPerPass = max_ranges;
  set.numNestingLevels = 1;
  set.minNestingLevel = 1;
  set.targetNestingLevel = 1;
  must(cuptiRangeProfilerSetConfig(&set), "cuptiRangeProfilerSetConfig");
  auto start = SIZED(CUpti_RangeProfiler_Start_Params);
  start.pRangeProfilerObject = profiler;
  must(cuptiRangeProfilerStart(&start), "cuptiRangeProfilerStart");
  launched.clear();
  counting = true;
}

void CounterSession::State::end_ranges() {
  if (const cudaError_t error = cudaDeviceSynchronize(); error != cudaSuccess)
    throw failure("counters: the device reports {}", cudaGetErrorString(error));
  counting = false;
  auto stop = SIZED(CUpti_RangeProfiler_Stop_Params);
  stop.pRangeProfilerObject = profiler;
  must(cuptiRangeProfilerStop(&stop), "cuptiRangeProfilerStop");
  auto decode = SIZED(CUpti_RangeProfiler_DecodeData_Params);
  decode.pRangeProfilerObject = profiler;
  must(cuptiRangeProfilerDecodeData(&decode), "cuptiRangeProfilerDecodeData");
  auto info = SIZED(CUpti_RangeProfiler_GetCounterDataInfo_Params);
  info.pCounterDataImage = image.data();
  info.counterDataImageSize = image.size();
  must(cuptiRangeProfilerGetCounterDataInfo(&info), "cuptiRangeProfilerGetCounterDataInfo");
  if (info.numTotalRanges + decode.numOfRangeDropped != launched.size())
    throw failure("counters: {} kernels were launched, {} counted: which is which cannot be told",
                  launched.size(), info.numTotalRanges + decode.numOfRangeDropped);
  counted.n_dropped += decode.numOfRangeDropped;
  for (size_t range = 0; range < info.numTotalRanges; ++range) {
    const auto [ns, read, written] = values_of(range);
    counted.kernels.push_back({launched[range].name, launched[range].label, ns, read, written});
  }
}

std::array<double, n_metrics> CounterSession::State::values_of(size_t range) const {
  std::array<double, n_metrics> values{};
  auto evaluate = SIZED(CUpti_Profiler_Host_EvaluateToGpuValues_Params);
  evaluate.pHostObject = host;
  evaluate.pCounterDataImage = image.data();
  evaluate.counterDataImageSize = image.size();
  evaluate.rangeIndex = range;
  evaluate.ppMetricNames = const_cast<const char**>(metrics);
  evaluate.numMetrics = n_metrics;
  evaluate.pMetricValues = values.data();
  must(cuptiProfilerHostEvaluateToGpuValues(&evaluate), "cuptiProfilerHostEvaluateToGpuValues");
  return values;
}

void CounterSession::State::stop() noexcept {
  if (profiler) {
    if (counting) {
      auto stop = SIZED(CUpti_RangeProfiler_Stop_Params);
      stop.pRangeProfilerObject = profiler;
      cuptiRangeProfilerStop(&stop);
    }
    auto disable = SIZED(CUpti_RangeProfiler_Disable_Params);
    disable.pRangeProfilerObject = profiler;
    cuptiRangeProfilerDisable(&disable);
  }
  if (host) {
    auto deinitialize = SIZED(CUpti_Profiler_Host_Deinitialize_Params);
    deinitialize.pHostObject = host;
    cuptiProfilerHostDeinitialize(&deinitialize);
  }
  counting = false, profiler = nullptr, host = nullptr;
  subscription.end();
}

CounterSession::CounterSession() : state_(std::make_unique<State>()) {
  state_->start();
}

CounterSession::~CounterSession() = default;

Counters CounterSession::finish() {
  if (!state_) throw failure("counters: this session has ended");
  state_->end_ranges();
  state_->stop();
  const std::unique_ptr<State> ended = std::move(state_);
  for (const std::string& name : ended->raw.names) ended->counted.names.push_back(demangled(name));
  ended->counted.labels = std::move(ended->raw.labels);
  return std::move(ended->counted);
}

void CounterSession::enter(int layer, std::string_view phase) {
  if (!state_) return;
  if (state_->launched.size() >= full_at) {
    state_->end_ranges();
    state_->begin_ranges();
  }
  scopes.push_back(state_->raw.label_index(layer, phase));
}

void CounterSession::leave() {
  if (state_) scopes.pop_back();
}

}  // namespace deltacal::gpu_trace
