// What recording a given text and recording a continuation have in common.
#pragma once
#include <span>
#include <vector>

#include "decode/logits.h"
#include "sensitivity/sensitivity.h"
#include "text/data.h"
#include "trace/trace.h"

namespace deltacal::record {

trace::SamplePlan plan_of(const text::TokenizedSample&, const char* mode, int n_tokens, size_t n_steps,
                          bool group_mass);

// Appends the NLL of the tokens after positions first.., as far as `ids` knows them.
void append_nll(std::vector<float>& nll, const decode::Logits&, std::span<const int32_t> ids, int first);

// What a finished pass found, as a trace holds it; beside it goes pass.edges().delta().
trace::EdgeSensitivity edges_of(const sensitivity::Sensitivity&, const sensitivity::Options&);

}  // namespace deltacal::record
