// Decoding of many sequences at once. Each waits for a free row, is prefilled into it with full attention,
// then steps together with the others, and leaves at its end: its pages and its row go to the next one. Steps
// are one CUDA graph each on a CUDA device (step_graph.h), unless the policy needs the host within a step; on
// the CPU, and under such a policy, passes of the Decoder.
//
// A sequence's own sampler decides its tokens: which others share the batch, and how many rows there are,
// changes them by rounding alone (products of matrices of other sizes, sums in another order).
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "decode/decoder.h"
#include "decode/sampling.h"
#include "decode/step_maps.h"

namespace deltacal::decode {

struct BatchSequence {
  std::span<const int32_t> prompt;  // not empty; outlives the decoding
  int max_new_tokens = 256;
  SamplingOptions sampling;
};

struct BatchOptions {
  int n_rows = 1;
  std::function<bool(int32_t token)> stops;  // a token after which a sequence ends; null: none
  bool group_mass = false;                   // of recorded steps
  gpu_trace::Session* trace = nullptr;       // gets a CUDA device's work by layer and phase
};

// A row of a recorded step.
struct RecordedRow {
  int row = 0;  // of the maps
  int sequence = 0, position = 0;
};

// Sequences are known by their index. Null: not wanted.
struct BatchCallbacks {
  // After n_positions more of the prompt: -log p, nats, of the tokens that follow them in it.
  std::function<void(int sequence, int n_positions, std::span<const float> nll)> prompt_nll;
  // Each new token as it is decided, and its -log p in nats.
  std::function<void(int sequence, int32_t token, float nll)> token;
  // Whether page maps of the step at that position are wanted. Asked once, before the step.
  std::function<bool(int sequence, int position)> records;
  // The maps of a step's rows for which they are. On a CUDA device, while the next step runs.
  std::function<void(std::span<const RecordedRow>, const StepMaps&)> maps;
  // After everything else of a sequence.
  std::function<void(int sequence)> finished;
};

struct BatchResult {
  std::vector<std::vector<int32_t>> tokens;  // the new ones of each sequence
  std::vector<LayerReads> reads;             // [n_layers] of all steps
  long long n_steps = 0;                     // of the batch
  double prefill_seconds = 0;                // of the whole time, spent on prompts
};

// Every new token is run through the model, the last one of a sequence included, so that all its positions
// may be recorded. bad_input for an empty prompt, and as Decoder and StepGraph have it.
BatchResult decode_batch(const model::Model&, const Policy&, std::span<const BatchSequence>,
                         const BatchOptions&, const BatchCallbacks&);

}  // namespace deltacal::decode
