// `calibrate --fit-head-weights`: the trace's samples through its model once more, and head weights for the
// Δ-layers of the chosen schedule (calib/head_weights.h).
#pragma once
#include <nlohmann/json.hpp>
#include <vector>

#include "calib/head_weights.h"
#include "config/schedule.h"
#include "model/model.h"
#include "options.h"
#include "trace/trace.h"

namespace deltacal::tools {

// Before anything is solved: bad_input unless --model is what the trace was recorded with, in the same dtype.
// Reads the head of the file alone.
void check_head_fit(const CalibrateOptions&, const trace::Reader&);

struct HeadFits {
  std::vector<calib::HeadChoice> choices;        // of the Δ-layers that serve sparse ones
  std::vector<std::vector<float>> head_weights;  // config::Score::head_weights; empty where none are kept
  nlohmann::ordered_json provenance;
};
// bad_input for a schedule without sparse layers, and for one whose lists depend on more than a step of a
// layer.
HeadFits fit_heads(const CalibrateOptions&, const trace::Reader&, const config::Schedule&,
                   const model::Model&);

void print(const HeadFits&);

}  // namespace deltacal::tools
