// The sensitivity pass: predicted KL of every edge a -> l for a grid of K and L, from one forward pass that
// this observer watches and one backward pass of the full model for each set of labels.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "core/pages.h"
#include "core/ranking.h"
#include "decode/decoder.h"
#include "decode/scored_rows.h"
#include "sensitivity/edge_deltas.h"
#include "sensitivity/page_values.h"

namespace deltacal::sensitivity {

struct Options {
  std::vector<PageBudget> budgets;  // [E]
  LossOptions loss;
  double position_bias = 1e-7;
  std::vector<Ranking> rankings = {};  // besides {sum, 1}, which always comes first
};

class Sensitivity : public decode::Observer {
 public:
  // Watches a teacher-forced pass over one sequence of `n_tokens` (sequence 0), whose first step is
  // `first_step`. steps [S] ascending positions from there on.
  Sensitivity(const model::Model&, int n_tokens, std::span<const int32_t> steps, const Options&, int first_step);
  void layer(const decode::LayerView&) override;

  // After the whole sequence went by; `cache` still holds its keys and values. failure as in
  // output_gradients().
  void finish(std::span<const int32_t> ids, int n_prompt_tokens, decode::KvCache& cache);
  // Rankings in the order of the options, after {sum, 1}.
  const EdgeDeltas& edges() const { return edges_; }

  // Memory of the pass beside that of the forward pass.
  static size_t bytes(const model::Description&, int n_tokens, int n_steps, const Options&);

 private:
  void rank(const decode::LayerView&, int ranking, PageScore);

  Options options_;
  PageValues pass_;
  EdgeDeltas edges_;
  decode::ScoredRows scored_;  // of a chunk; kept for its memory
};

}  // namespace deltacal::sensitivity
