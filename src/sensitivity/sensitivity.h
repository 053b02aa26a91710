// The sensitivity pass: predicted KL of every edge a -> l for a grid of K and L, from one forward pass that
// this observer watches and one backward pass of the full model for each set of labels.
#pragma once
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "core/pages.h"
#include "core/ranking.h"
#include "decode/decoder.h"
#include "decode/list_plan.h"
#include "decode/scored_rows.h"
#include "decode/step_memory.h"
#include "sensitivity/edge_deltas.h"
#include "sensitivity/page_values.h"

namespace deltacal::sensitivity {

struct Options {
  std::vector<PageBudget> budgets;  // [E]
  LossOptions loss;
  double position_bias = 1e-7;
  std::vector<Ranking> rankings = {};  // besides {sum, 1}, which always comes first
};

// The lists of every layer under one ranking, as the chunks go by.
struct RankedLists {
  struct Last {
    int t0 = -1;           // of the newest list of the chunks that went by; -1: none
    std::vector<float> q;  // [n_heads, head_dim] its row after rotary embedding
  };
  Ranking ranking;
  std::vector<decode::ListPlan> plans;  // [N]
  std::vector<Last> last;               // [N]
  std::vector<int32_t>
      made_at;  // [N, n_tokens - first_step] the step whose list is in force; of a signal alone
};

class Sensitivity : public decode::Observer {
 public:
  // Watches a teacher-forced pass over one sequence of `n_tokens` (sequence 0), whose first step is
  // `first_step`. steps [S] ascending positions from there on. After its KV cache was made: activations
  // stay in a device's memory where they fit beside what is there and what the two passes need.
  Sensitivity(const model::Model&, int n_tokens, std::span<const int32_t> steps, const Options&, int first_step);
  void layer(const decode::LayerView&) override;
  void feed_forward(const decode::LayerView& view) override { pass_.feed_forward(view); }
  bool reads_query() const override;

  // After the whole sequence went by; `cache` still holds its keys and values. failure as in
  // output_gradients().
  void finish(std::span<const int32_t> ids, int n_prompt_tokens, decode::KvCache& cache);
  // Rankings in the order of the options, after {sum, 1}.
  const EdgeDeltas& edges() const { return edges_; }
  // [N, n_tokens - first_step] the step whose list is in force, under one of them that has a signal;
  // otherwise empty.
  const std::vector<int32_t>& list_made_at(int ranking) const { return lists_[size_t(ranking)].made_at; }

  // Memory of the pass beside that of the forward pass.
  static size_t bytes(const model::Description&, int n_tokens, int n_steps, const Options&);
  // Sets what follows a replay, of a CUDA device's memory. Activations are not counted: what of them does not
  // fit beside it lies in the host's, or is computed again.
  static void set_need(decode::PrefillNeed&, const model::Description&, const LossOptions&);

 private:
  // Lists whose scores are on their way from the device, which has gone on to later layers.
  struct Pending {
    int ranking, layer;
    std::vector<MadeList> lists;
    decode::TakeScores take;
  };
  void rank(const decode::LayerView&, int ranking);
  void rank_oldest();
  void score(const decode::LayerView&, int ranking, std::span<const MadeList>);
  void score_last(const decode::LayerView&, int ranking, const MadeList&);

  Options options_;
  std::vector<int32_t> steps_;  // [S]
  int first_step_;
  std::vector<RankedLists> lists_;  // [1 + rankings]
  PageValues pass_;
  EdgeDeltas edges_;
  std::deque<Pending> pending_;
  decode::ScoredRows scored_;  // of a chunk; kept for its memory
};

}  // namespace deltacal::sensitivity
