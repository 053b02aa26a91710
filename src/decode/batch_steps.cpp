#include "decode/batch_steps.h"

#include <algorithm>

#include "decode/scored_rows.h"
#include "decode/step_graph.h"

namespace deltacal::decode {
namespace {

// Keeps the page maps of a Decoder's step.
class MapsObserver : public Observer {
 public:
  MapsObserver(const ModelInfo& model, int n_rows, int max_pages, bool group_mass)
      : maps_{model.n_layers, n_rows, model.n_kv_heads, max_pages}, group_mass_(group_mass) {}

  void begin(bool recorded) {
    recorded_ = recorded;
    if (!recorded || !score_.empty()) return;
    score_.resize(size_t(maps_.n_layers) * size_t(maps_.n_rows) * size_t(maps_.n_pages));
    mass_.resize(score_.size());
    group_.resize(group_mass_ ? score_.size() * size_t(maps_.n_kv_heads) : 0);
  }

  void layer(const LayerView& view) override {
    if (!recorded_) return;
    rows_.resize(size_t(view.n_rows));
    for (int r = 0; r < view.n_rows; ++r) rows_[size_t(r)] = r;
    score_rows(view, rows_, group_mass_, scored_);
    const size_t from = size_t(scored_.n_pages), to = size_t(maps_.n_pages), G = size_t(maps_.n_kv_heads);
    for (size_t r = 0; r < rows_.size(); ++r) {
      const size_t at = size_t(view.layer) * size_t(maps_.n_rows) + size_t(view.sequence[r]);
      std::copy_n(&scored_.score[r * from], from, &score_[at * to]);
      std::copy_n(&scored_.mass[r * from], from, &mass_[at * to]);
      for (size_t g = 0; group_mass_ && g < G; ++g)
        std::copy_n(&scored_.group_mass[(r * G + g) * from], from, &group_[(at * G + g) * to]);
    }
  }

  StepMaps maps() const {
    StepMaps maps = maps_;
    maps.score = score_.data(), maps.mass = mass_.data();
    if (group_mass_) maps.group_mass = group_.data();
    return maps;
  }

 private:
  StepMaps maps_;  // the shape
  bool group_mass_, recorded_ = false;
  std::vector<float> score_, mass_, group_;  // as StepMaps
  std::vector<int> rows_;                    // [n_rows of the pass]
  ScoredRows scored_;
};

// One row's reads in a step under a policy without windows or kept lists; the Decoder counts its own.
void count_row(const Policy& policy, int position, std::vector<LayerReads>& reads) {
  int listed = 0;  // pages of the list in force
  for (size_t layer = 0; layer < policy.layers.size(); ++layer) {
    const LayerPolicy& p = policy.layers[layer];
    LayerReads& to = reads[layer];
    if (p.attend == Attend::list) {
      const int k = std::min(p.k_pages, listed), t = position;
      to.attended += k >= pages_seen(t) ? t + 1 : (k - 1LL) * page_size + t % page_size + 1;
      continue;
    }
    to.attended += position + 1;
    if (p.attend != Attend::all_rank) continue;
    listed = p.k_pages;
    ++to.lists;
    if (p.k_pages > p.l_pages) to.ranked += position + 1;
  }
}

class DecoderSteps : public BatchSteps {
 public:
  DecoderSteps(const model::Model& model, KvCache& cache, const Policy& policy, const BatchOptions& options,
               bool records)
      : observer_(model.info(), options.n_rows, cache.max_pages(), options.group_mass),
        decoder_(model, cache, policy,
                 records ? std::vector<Observer*>{&observer_} : std::vector<Observer*>{}, options.trace),
        prefilled_to_(size_t(options.n_rows), 0) {}

  Logits prefill(int row, std::span<const int32_t> prompt, const PromptNll& chunk) override {
    const int n_prompt = static_cast<int>(prompt.size());
    observer_.begin(false);
    prefilled_to_[size_t(row)] = n_prompt;
    Logits last;
    replay(
        decoder_, prompt, n_prompt,
        [&](int first, int n) {
          if (chunk)
            chunk(n, decoder_.nll(
                         0, prompt.subspan(size_t(first) + 1, size_t(std::min(n, n_prompt - first - 1)))));
          if (first + n == n_prompt) last = decoder_.logits(n - 1, 1);
        },
        0, row);
    return last;
  }
  void run(std::span<const StepRow> rows, bool recorded) override {
    token_.clear(), position_.clear(), sequence_.clear();
    for (const StepRow& r : rows)
      token_.push_back(r.token), position_.push_back(r.position), sequence_.push_back(r.row);
    observer_.begin(recorded);
    decoder_.forward({token_, position_, sequence_, prefilled_to_});
  }
  Logits logits() override { return decoder_.logits(0, static_cast<int>(token_.size())); }
  int logits_row(int row) const override {
    return static_cast<int>(std::ranges::find(sequence_, row) - sequence_.begin());
  }
  StepMaps take_maps() override { return observer_.maps(); }
  bool maps_come_later() const override { return false; }
  std::vector<LayerReads> reads() const override {
    return {decoder_.reads().begin(), decoder_.reads().end()};
  }

 private:
  MapsObserver observer_;
  Decoder decoder_;
  std::vector<int32_t> prefilled_to_;                 // [n_rows]
  std::vector<int32_t> token_, position_, sequence_;  // of the step
};

// Prompts by a Decoder, steps by a graph of all rows on the same cache.
class GraphSteps : public BatchSteps {
 public:
  GraphSteps(const model::Model& model, KvCache& cache, const Policy& policy, const BatchOptions& options,
             bool records)
      : prompts_(model, cache, policy, options, false),
        graph_(model, cache, policy, options.n_rows, StepGraph::Part::step, options.trace,
               !records             ? StepGraph::Maps::none
               : options.group_mass ? StepGraph::Maps::heads
                                    : StepGraph::Maps::layers),
        policy_(policy),
        reads_(policy.layers.size()) {}

  Logits prefill(int row, std::span<const int32_t> prompt, const PromptNll& chunk) override {
    return prompts_.prefill(row, prompt, chunk);
  }
  void run(std::span<const StepRow> rows, bool recorded) override {
    token_.assign(size_t(graph_.n_rows()), 0);
    position_.assign(size_t(graph_.n_rows()), -1);
    for (const StepRow& r : rows) {
      token_[size_t(r.row)] = r.token, position_[size_t(r.row)] = r.position;
      count_row(policy_, r.position, reads_);
    }
    graph_.run(token_, position_, recorded);
  }
  Logits logits() override { return graph_.logits(); }
  int logits_row(int row) const override { return row; }
  StepMaps take_maps() override { return graph_.take_maps(); }
  bool maps_come_later() const override { return true; }
  std::vector<LayerReads> reads() const override { return reads_; }

 private:
  DecoderSteps prompts_;
  StepGraph graph_;
  Policy policy_;
  std::vector<LayerReads> reads_;          // [n_layers]
  std::vector<int32_t> token_, position_;  // [n_rows]
};

}  // namespace

std::unique_ptr<BatchSteps> steps_of(const model::Model& model, KvCache& cache, const Policy& policy,
                                     const BatchOptions& options, bool records) {
  if (model.device() == model::Device::cuda && !policy.needs_host())
    return std::make_unique<GraphSteps>(model, cache, policy, options, records);
  return std::make_unique<DecoderSteps>(model, cache, policy, options, records);
}

}  // namespace deltacal::decode
