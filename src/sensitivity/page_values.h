// Page mass and page value of every layer at some steps of one sequence: one forward pass that this observer
// watches, and one backward pass of the full model for each set of labels (method.md, "Predicted KL of an
// edge").
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <vector>

#include "decode/decoder.h"
#include "sensitivity/gradients.h"

namespace deltacal::sensitivity {

class PageValues : public decode::Observer {
 public:
  // Watches a teacher-forced pass over one sequence of `n_tokens` (sequence 0). steps [S] ascending
  // positions. besides: as Activations.
  PageValues(const model::Model&, int n_tokens, std::span<const int32_t> steps, size_t besides);
  void layer(const decode::LayerView&) override;
  void feed_forward(const decode::LayerView&) override;

  // mass [S, H, n_pages], value [n_gradients, S, H, n_pages] as of kernels/page_value; valid during the call.
  using Use =
      std::function<void(int layer, int n_pages, std::span<const float> mass, std::span<const float> value)>;
  // After the whole sequence went by; `cache` still holds its keys and values. Calls `use` for the layers
  // N-1, ..., 0. failure as in output_gradients().
  void finish(std::span<const int32_t> ids, int n_prompt_tokens, const LossOptions&, decode::KvCache& cache,
              const Use& use);

 private:
  void keep_oldest();

  // Some of the steps' rows of a layer on their way to the host.
  struct Pending {
    int layer;
    size_t first_step;
    std::function<std::vector<float>()> q, log_sum_exp;  // the latter empty where it is not known
  };
  const model::Model& model_;
  std::vector<int32_t> steps_;  // [S]
  Activations activations_;
  std::deque<Pending> pending_;
  std::vector<std::vector<float>> q_;            // [N] of [S, H, d] after rotary embedding
  std::vector<std::vector<float>> log_sum_exp_;  // [N] of [S, H]; empty where some step's is not known
};

}  // namespace deltacal::sensitivity
