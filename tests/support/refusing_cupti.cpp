// Loaded ahead of CUPTI by LD_PRELOAD: a driver that shows its counters to administrators alone.
#include <cupti_range_profiler.h>

CUptiResult CUPTIAPI cuptiRangeProfilerEnable(CUpti_RangeProfiler_Enable_Params*) {
  return CUPTI_ERROR_INSUFFICIENT_PRIVILEGES;
}
