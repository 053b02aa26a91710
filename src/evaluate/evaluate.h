// One sample under several attention policies, teacher-forced: NLL, KL to full attention, agreement, attended tokens,
// and recall on the sparse run's own hidden states (method.md, "Validation").
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "decode/policy.h"
#include "decode/step_memory.h"
#include "gpu_trace/session.h"
#include "model/model.h"

namespace deltacal::evaluate {

struct NamedPolicy {
  std::string name;
  decode::Policy policy;
};

struct LayerRecall {
  int layer = 0;
  double mean = 0;  // over the steps sampled; NaN if none was active
};

// Step i is the position first_step + i; T - first_step steps.
struct PolicyScores {
  std::string name;
  std::vector<float> nll;       // [steps] nats, of the next token; NaN at the last step
  std::vector<float> kl;        // [steps] KL(full || this), nats
  std::vector<uint8_t> top1;    // [steps] same most likely token as full attention
  long long attended = 0;       // positions, over all layers and steps
  std::vector<LayerRecall> recall;  // of the layers that do not attend to everything
};

struct SampleScores {
  int first_step = 0;
  std::vector<float> nll_full;          // [steps]
  long long positions = 0;              // t + 1 over all layers and steps
  std::vector<PolicyScores> policies;   // in the order given
};

struct EvaluateOptions {
  int chunk = 0;          // positions of one forward pass; 0: as suits the device
  int recall_steps = 64;  // steps a sample, spread evenly, on which on-policy recall is measured; 0: none
  gpu_trace::Session* trace = nullptr;  // of the device's work, on a CUDA device
};

// What evaluate() takes of a CUDA device's memory, for samples of up to `n_positions`.
decode::PrefillNeed device_need(const model::Description&, int n_policies, int n_positions);

// Runs full attention and every policy in step, chunk by chunk, each with a cache of its own.
SampleScores evaluate(const model::Model&, std::span<const int32_t> ids, int n_prompt_tokens,
                      const std::vector<NamedPolicy>&, const EvaluateOptions&,
                      const std::function<void(int n_positions)>& advance);

}  // namespace deltacal::evaluate
