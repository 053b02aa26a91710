// Profiling: one sample's attention into a trace, from a given text or from the model's own continuation.
#pragma once
#include <functional>
#include <optional>
#include <span>

#include "decode/sampling.h"
#include "decode/step_memory.h"
#include "gpu_trace/session.h"
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
  gpu_trace::Session* trace = nullptr;                             // of the device's work, on a CUDA device
};

using Advance = std::function<void(int n_positions)>;  // progress; null: not wanted

// What record_replay() takes of a CUDA device's memory, for samples of up to `n_positions`.
decode::PrefillNeed device_need(const model::Description&, int n_positions, const RecordOptions&);

// Teacher-forced over the sample's tokens, chunk by chunk (method.md, "Teacher-forced replay").
void record_replay(const model::Model&, const text::TokenizedSample&, const RecordOptions&, trace::Writer&, int index,
                   const Advance&);

struct DecodeOptions {
  int max_new_tokens = 1024;
  decode::SamplingOptions sampling;  // a sample's own seed is the one given plus its index
  int n_rows = 1;
  // The trace is compressed and written by a thread of its own; unset: as suits the device.
  std::optional<bool> writes_beside = std::nullopt;
};
// What record_decode()'s steps share a CUDA device's memory with (decode::step_memory), for continuations of
// up to `longest` positions.
decode::StepUse device_use(const model::Description&, int longest, const RecordOptions&,
                           const DecodeOptions&);

// Throws bad_input if the prompt and the new tokens do not fit the model's context.
void check_context(const text::TokenizedSample&, const DecodeOptions&, const ModelInfo&);

struct Prompt {
  const text::TokenizedSample* sample = nullptr;  // its first n_prompt_tokens ids
  int index = 0;                                  // in the trace
};

// The model's own continuations of prompts, n_rows at once (decode/batch.h). Which steps are recorded follows
// from max_new_tokens. Returns for each prompt whether it was written: not a continuation that ends before
// the first step to record.
std::vector<bool> record_decode(const model::Model&, std::span<const Prompt>, const RecordOptions&,
                                const DecodeOptions&, trace::Writer&, const Advance&);

}  // namespace deltacal::record
