// `calibrate --transfer`: schedules calibrated on one task, measured on the others, and on less than all of
// the trace.
#pragma once
#include "options.h"
#include "trace/trace.h"

namespace deltacal::tools {

// Writes transfer.json to --out and the same as Markdown beside it (.md). The exit status.
int transfer(const CalibrateOptions&, const trace::Reader&);

}  // namespace deltacal::tools
