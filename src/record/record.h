// Profiling: one sample's attention into a trace, from a given text or from the model's own continuation.
#pragma once
#include <functional>
#include <optional>

#include "decode/sampling.h"
#include "model/model.h"
#include "record/steps.h"
#include "sensitivity/sensitivity.h"
#include "text/data.h"
#include "trace/trace.h"

namespace deltacal::record {

struct RecordOptions {
  StepChoice steps;
  bool group_mass = false;
  int chunk = 0;  // positions of one forward pass in replay; 0: as suits the device
  std::optional<sensitivity::Options> sensitivity = std::nullopt;  // also the predicted KL of every edge: a backward pass of the model
};

using Advance = std::function<void(int n_positions)>;  // progress; null: not wanted

// Teacher-forced over the sample's tokens, chunk by chunk (method.md, "Teacher-forced replay").
void record_replay(const model::Model&, const text::TokenizedSample&, const RecordOptions&, trace::Writer&, int index,
                   const Advance&);

struct DecodeOptions {
  int max_new_tokens = 1024;
  decode::SamplingOptions sampling;
};
// Throws bad_input if the prompt and the new tokens do not fit the model's context.
void check_context(const text::TokenizedSample&, const DecodeOptions&, const ModelInfo&);

// The model's own continuation of the sample's prompt (its first n_prompt_tokens ids), token by token. Which
// steps are recorded follows from max_new_tokens; a continuation that ends before the first of them is not
// written: false.
bool record_decode(const model::Model&, const text::TokenizedSample&, const RecordOptions&,
                   const DecodeOptions&, trace::Writer&, int index, const Advance&);

}  // namespace deltacal::record
