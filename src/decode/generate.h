// Decoding of one sequence: prefill of the prompt, then token by token.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "decode/decoder.h"
#include "decode/sampling.h"

namespace deltacal::decode {

struct GenerateOptions {
  int max_new_tokens = 256;
  SamplingOptions sampling;
  std::function<bool(int32_t token)> stops;  // a token after which nothing more is decoded; null: none
};

struct GenerateCallbacks {  // null: not wanted
  // The prompt's positions first..first+n_rows-1 went by: their logits can be asked for.
  std::function<void(int first_position, int n_rows)> prompt_chunk;
  // Each new token as it is decided, and the row of logits that decided it.
  std::function<void(int32_t token, const Logits& decided_by)> token;
};

// Decodes sequence 0 of the decoder's cache from position 0. Prompt positions are prefilled with full
// attention. Every new token is run through the model, the last one included, so that all positions of the
// result have been seen by the observers. Returns the new tokens. bad_input for an empty prompt.
std::vector<int32_t> generate(Decoder&, std::span<const int32_t> prompt, const GenerateOptions&,
                              const GenerateCallbacks&);

}  // namespace deltacal::decode
