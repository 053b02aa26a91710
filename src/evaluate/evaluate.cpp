#include "evaluate/evaluate.h"

#include <limits>
#include <memory>

#include "core/error.h"
#include "decode/decoder.h"
#include "evaluate/recall_observer.h"
#include "evaluate/reuse.h"

namespace deltacal::evaluate {
namespace {

constexpr int rows_compared = 1024;  // whose logits, a vocabulary wide, are there at one time

// Keeps what chosen layers were given, of the rows at hand.
class HiddenKeeper : public decode::Observer {
 public:
  HiddenKeeper(int n_layers, int n_embd) : n_embd_(n_embd), kept_(n_layers), wanted_(n_layers) {}
  void keep(int layer) { wanted_[layer] = true; }
  const float* of(int layer) const { return kept_[layer].data(); }  // [n_rows, n_embd]
  void layer(const decode::LayerView& view) override {
    if (wanted_[view.layer])
      kept_[view.layer].assign(view.hidden(), view.hidden() + size_t(view.n_rows) * size_t(n_embd_));
  }

 private:
  int n_embd_;
  std::vector<std::vector<float>> kept_;  // [n_layers]
  std::vector<bool> wanted_;              // [n_layers]
};

// One policy on its way through the sample, with a cache of its own, of which layers below `first_layer` stay empty.
struct Run {
  decode::KvCache cache;
  RecallObserver recall;
  HiddenKeeper hidden;
  decode::Decoder decoder;
  const Run* from = nullptr;  // whose hidden states it begins with; null: with the tokens
  int first_layer = 0;

  Run(const model::Model& model, const decode::Policy& policy, int n_tokens,
      std::vector<int32_t> recall_steps, gpu_trace::Session* trace)
      : cache(model, 1, n_tokens),
        recall(model.info().n_layers, std::move(recall_steps)),
        hidden(model.info().n_layers, model.description().n_embd),
        decoder(model, cache, policy, {&recall, &hidden}, trace) {}

  // Begins where `run` has what it needs.
  void begin_with(Run& run, int layer) {
    if (layer == 0) return;
    from = &run;
    first_layer = layer;
    run.hidden.keep(layer);
  }
  // Positions attended by the steps; layers that were not run did as in the run that it begins with.
  long long attended() const {
    long long sum = 0;
    for (size_t layer = 0; layer < decoder.reads().size(); ++layer) sum += attended(static_cast<int>(layer));
    return sum;
  }
  long long attended(int layer) const {
    return layer < first_layer ? from->attended(layer) : decoder.reads()[size_t(layer)].attended;
  }
  void forward(const decode::Rows& rows) {
    decoder.forward(rows, first_layer, from ? from->hidden.of(first_layer) : nullptr);
  }
};

// At most n of the steps first..end-1, spread evenly.
std::vector<int32_t> spread(int first, int end, int n) {
  std::vector<int32_t> steps;
  const int available = end - first;
  n = std::min(n, available);
  for (int i = 0; i < n; ++i) steps.push_back(first + static_cast<int>((2LL * i + 1) * available / (2 * n)));
  return steps;
}

void append(std::vector<float>& to, const std::vector<float>& from) { to.insert(to.end(), from.begin(), from.end()); }

}  // namespace

decode::PrefillNeed device_need(const model::Description& d, int n_policies, int n_positions) {
  decode::PrefillNeed need;
  need.n_positions = n_positions;
  need.n_caches = 1 + n_policies;
  need.others = size_t(n_policies) * decode::bytes_kept_for_logits(d, n_positions);
  // Logits of two policies, the logarithms of both's probabilities, and what they are compared by.
  need.after = [n_vocab = size_t(d.n_vocab)](int n) {
    return size_t(std::min(n, rows_compared)) * n_vocab * 24;
  };
  return need;
}

SampleScores evaluate(const model::Model& model, std::span<const int32_t> ids, int n_prompt_tokens,
                      const std::vector<NamedPolicy>& policies, const EvaluateOptions& options,
                      const std::function<void(int)>& advance) {
  const int n_tokens = static_cast<int>(ids.size());
  const int n_layers = model.info().n_layers;
  SampleScores out;
  out.first_step = n_prompt_tokens;
  for (int t = n_prompt_tokens; t < n_tokens; ++t) out.positions += (long long)(t + 1) * n_layers;

  Run full(model, decode::full_policy(n_layers), n_tokens, {}, options.trace);
  std::vector<std::unique_ptr<Run>> runs;
  std::vector<decode::Policy> only;
  for (const auto& named : policies) only.push_back(named.policy);
  const std::vector<Reuse> reuse = plan_reuse(only, options.recall_steps > 0);
  for (const auto& [name, policy] : policies) {
    // Steps that see no more pages than the smallest k leave nothing out.
    const int first_active = std::max(n_prompt_tokens, decode::smallest_k(policy) * page_size);
    runs.push_back(std::make_unique<Run>(
        model, policy, n_tokens, spread(first_active, n_tokens, options.recall_steps), options.trace));
    const auto [run, first_layer] = reuse[runs.size() - 1];
    runs.back()->begin_with(run < 0 ? full : *runs[run], first_layer);
    PolicyScores scores;
    scores.name = name;
    out.policies.push_back(std::move(scores));
  }

  const int32_t prefilled_to[] = {n_prompt_tokens};
  decode::replay(
      full.decoder, ids, n_prompt_tokens,
      [&](int first, int n) {
        std::vector<int32_t> position(n), sequence(n, 0);
        for (int i = 0; i < n; ++i) position[i] = first + i;
        for (auto& run : runs) run->forward({ids.subspan(first, n), position, sequence, prefilled_to});
        if (advance) advance(n);

        const int begin = std::max(first, n_prompt_tokens);  // first step of this chunk
        const int n_steps = first + n - begin;
        if (n_steps <= 0) return;
        for (int done = 0; done < n_steps; done += rows_compared) {
          const int row = begin - first + done, n_rows = std::min(rows_compared, n_steps - done);
          const int with_next = std::min(n_rows, n_tokens - 1 - begin - done);
          const auto next = ids.subspan(begin + done + 1, with_next);
          const decode::Logits of_full = full.decoder.logits(row, n_rows);
          append(out.nll_full, decode::nll_of(of_full, next));
          for (size_t i = 0; i < runs.size(); ++i) {
            const decode::Logits logits = runs[i]->decoder.logits(row, n_rows);
            PolicyScores& scores = out.policies[i];
            append(scores.nll, decode::nll_of(logits, next));
            const decode::Agreement agreement = decode::compare(of_full, logits);
            append(scores.kl, agreement.kl);
            scores.top1.insert(scores.top1.end(), agreement.top1.begin(), agreement.top1.end());
          }
        }
      },
      options.chunk);

  // The last token has no next one.
  constexpr float missing = std::numeric_limits<float>::quiet_NaN();
  out.nll_full.push_back(missing);
  for (size_t i = 0; i < runs.size(); ++i) {
    out.policies[i].nll.push_back(missing);
    out.policies[i].attended = runs[i]->attended();
    out.policies[i].recall = runs[i]->recall.result();
  }
  return out;
}

}  // namespace deltacal::evaluate
