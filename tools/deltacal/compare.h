// `calibrate --compare`: every method's schedule at one budget, measured on development traces.
#pragma once
#include "options.h"
#include "trace/trace.h"

namespace deltacal::tools {

// Where the Markdown goes that lies beside --out. bad_input if the two are the same or one of them is there
// already.
std::string markdown_beside(const CalibrateOptions&);

// Writes compare.json to --out and the same as Markdown beside it (.md). The exit status.
int compare(const CalibrateOptions&, const trace::Reader&);

}  // namespace deltacal::tools
