// `calibrate --compare`: every method's schedule at one budget, measured on development traces.
#pragma once
#include "options.h"
#include "trace/trace.h"

namespace deltacal::tools {

// Writes compare.json to --out and the same as Markdown beside it (.md). The exit status.
int compare(const CalibrateOptions&, const trace::Reader&);

}  // namespace deltacal::tools
