// What recording a given text and recording a continuation have in common.
#pragma once
#include "sensitivity/sensitivity.h"
#include "text/data.h"
#include "trace/trace.h"

namespace deltacal::record {

trace::SamplePlan plan_of(const text::TokenizedSample&, const char* mode, int n_tokens, size_t n_steps,
                          bool group_mass);

// What a finished pass found, as a trace holds it; beside it goes pass.edges().delta().
trace::EdgeSensitivity edges_of(const sensitivity::Sensitivity&, const sensitivity::Options&);

}  // namespace deltacal::record
