// The steps of a batch (batch.h), whoever runs them. Included only by src/decode/*.cpp.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "decode/batch.h"
#include "decode/kv_cache.h"

namespace deltacal::decode {

// A live row of a step: row `row` of the cache gets `token` at `position`.
struct StepRow {
  int row = 0, position = 0;
  int32_t token = 0;
};

// As BatchCallbacks::prompt_nll, of one sequence.
using PromptNll = std::function<void(int n_positions, std::span<const float> nll)>;

class BatchSteps {
 public:
  virtual ~BatchSteps() = default;
  // Returns the logits of the last position, [1, V]. `chunk` may be null.
  virtual Logits prefill(int row, std::span<const int32_t> prompt, const PromptNll& chunk) = 0;
  virtual void run(std::span<const StepRow>, bool recorded) = 0;
  virtual Logits logits() = 0;                // of the last step
  virtual int logits_row(int row) const = 0;  // where in them a live row's are
  // Of the oldest recorded step whose maps were not taken; its rows are those of the cache.
  virtual StepMaps take_maps() = 0;
  // Whether they are better taken after the next step was enqueued, as they may be.
  virtual bool maps_come_later() const = 0;
  virtual std::vector<LayerReads> reads() const = 0;  // [n_layers]
};

// For a model on a CUDA device and a policy that a graph can follow, StepGraph, else the Decoder. `records`:
// whether any step will be recorded.
std::unique_ptr<BatchSteps> steps_of(const model::Model&, KvCache&, const Policy&, const BatchOptions&,
                                     bool records);

}  // namespace deltacal::decode
