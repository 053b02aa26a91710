// What decoding steps of a batch, and prefill or replay of a sequence, need of a device's memory, reckoned
// before anything is made.
#pragma once
#include <cstddef>
#include <functional>
#include <string>

#include "model/model.h"

namespace deltacal::decode {

struct StepMemory {
  size_t weights = 0, cache = 0, buffers = 0;  // bytes
  size_t total() const;                        // with a margin for the libraries' own
};

// What else is done there.
struct StepUse {
  bool prefills = false;    // prompts, and asks for their logits
  bool draws = false;       // tokens by draw() (logits.h)
  bool records = false;     // page maps of every layer
  bool group_mass = false;  // of each key/value head too
  size_t besides = 0;       // bytes of anything else
};

// `n_rows` sequences of `max_positions`.
StepMemory step_memory(const model::Description&, size_t weight_bytes, int n_rows, int max_positions,
                       const StepUse& = {});

// The most rows that fit into `free_bytes`, up to `most`; 0 where not even one does.
int rows_that_fit(int most, const model::Description&, size_t weight_bytes, int max_positions,
                  size_t free_bytes, const StepUse&);

// bad_input where `free_bytes` do not suffice: `what` ("--batch 32x32768"), what is needed, what is there,
// and how many rows or positions would fit. The device's dtype is bf16.
void check_memory(const std::string& what, const model::Description&, size_t weight_bytes, int n_rows,
                  int max_positions, size_t free_bytes, const StepUse& = {});

// Prefill or replay of a sequence by a Decoder, chunk by chunk (replay_chunk()).
struct PrefillNeed {
  size_t weight_bytes = 0;  // 0: they are there already
  int n_positions = 0;      // of the longest sequence
  int n_caches = 1;         // KV caches of so many positions at one time
  size_t others = 0;        // bytes of anything else
  // Page maps of a chunk's rows at one time: 1 where rows rank (their scores), 2 where they are recorded
  // (masses too), with those of each key/value head so many more.
  int n_maps = 1;
  // Of what follows the forward pass of a chunk or of all (a backward pass; logits that are compared): bytes
  // at the most, of so many positions, besides weights, caches and what a Decoder keeps for its logits. It or
  // the forward pass counts. Null: nothing follows.
  std::function<size_t(int n_positions)> after = nullptr;
};
StepMemory prefill_memory(const model::Description&, const PrefillNeed&);
size_t bytes_kept_for_logits(const model::Description&, int n_positions);  // by a Decoder, of its last chunk

// Pieces of work that share the weights: how many at one time, and of which size each.
struct Pieces {
  int at_once, size;
};
// Those that fit into what is free beside the weights: the most at once of which each is of size 3, which a
// larger one gains little over, or as large as one alone could be; one of size 1 in any case.
Pieces pieces_that_fit(int most_at_once, int largest_size, size_t free_bytes,
                       const std::function<StepMemory(int size)>& of_piece);

// values_of() on a CUDA device (scored_rows.h): so many rows at one time, at least one, that their inputs
// and results take at most value_block_bytes.
constexpr size_t value_block_bytes = size_t{1} << 29;
size_t value_row_bytes(const ModelInfo&, int n_gradients, int n_pages);
int value_rows_at_once(const ModelInfo&, int n_gradients, int n_pages);

// bad_input where `free_bytes` do not suffice: `what` ("profile"), what is needed, what is there, and how
// many positions would fit.
void check_memory(const std::string& what, const model::Description&, const PrefillNeed&, size_t free_bytes);

}  // namespace deltacal::decode
