#include "decode/batch.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <optional>

#include "core/error.h"
#include "decode/batch_steps.h"

namespace deltacal::decode {
namespace {

// A sequence in its row.
struct Live {
  int sequence = 0;
  int position = 0;   // of the next step
  int32_t token = 0;  // that it gets there
  Sampler sampler;
};

int longest_of(std::span<const BatchSequence> sequences) {
  int longest = 1;
  for (const BatchSequence& s : sequences) {
    if (s.prompt.empty()) throw bad_input("the prompt has no tokens: give some text");
    longest = std::max(longest, static_cast<int>(s.prompt.size()) + s.max_new_tokens);
  }
  return longest;
}

class Batch {
 public:
  Batch(const model::Model& model, const Policy& policy, std::span<const BatchSequence> sequences,
        const BatchOptions& options, const BatchCallbacks& callbacks)
      : sequences_(sequences),
        options_(options),
        callbacks_(callbacks),
        on_device_(model.device() == model::Device::cuda),
        cache_(model, options.n_rows, longest_of(sequences)),
        steps_(steps_of(model, cache_, policy, options, callbacks.records != nullptr)),
        rows_(size_t(options.n_rows)) {
    result_.tokens.resize(sequences.size());
  }

  BatchResult run() {
    int next = 0;
    while (true) {
      for (int row = 0; row < options_.n_rows; ++row)
        while (!rows_[size_t(row)] && next < std::ssize(sequences_)) join(next++, row);
      if (std::ranges::none_of(rows_, [](const auto& live) { return live.has_value(); })) break;
      step();
    }
    result_.reads = steps_->reads();
    return std::move(result_);
  }

 private:
  void join(int sequence, int row) {
    const auto start = std::chrono::steady_clock::now();
    const BatchSequence& what = sequences_[size_t(sequence)];
    const int n_prompt = static_cast<int>(what.prompt.size());
    PromptNll chunk;
    if (callbacks_.prompt_nll)
      chunk = [&](int n, std::span<const float> nll) { callbacks_.prompt_nll(sequence, n, nll); };
    const Logits last = steps_->prefill(row, what.prompt, chunk);
    rows_[size_t(row)] = Live{sequence, n_prompt, 0, Sampler(what.sampling)};
    if (what.max_new_tokens > 0) {
      const gpu_trace::Scope scope(options_.trace, -1, "next token");
      const std::pair<int, int> at[] = {{row, 0}};
      decide(last, at);
    }
    result_.prefill_seconds +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (what.max_new_tokens <= 0) leave(row);
  }

  void leave(int row) {
    deliver(0);
    const int sequence = rows_[size_t(row)]->sequence;
    rows_[size_t(row)].reset();
    cache_.release(row);
    if (callbacks_.finished) callbacks_.finished(sequence);
  }

  void step() {
    std::vector<StepRow> rows;
    std::vector<RecordedRow> recorded;
    for (int row = 0; row < options_.n_rows; ++row) {
      if (!rows_[size_t(row)]) continue;
      const Live& live = *rows_[size_t(row)];
      rows.push_back({row, live.position, live.token});
      if (callbacks_.records && callbacks_.records(live.sequence, live.position))
        recorded.push_back({row, live.sequence, live.position});
    }
    steps_->run(rows, !recorded.empty());
    ++result_.n_steps;
    const bool later = !recorded.empty() && steps_->maps_come_later();
    if (!recorded.empty()) waiting_.push_back(std::move(recorded));
    deliver(later ? 1 : 0);

    std::vector<std::pair<int, int>> go_on;  // row of the cache, row of the logits
    for (const StepRow& r : rows) {
      ++rows_[size_t(r.row)]->position;
      if (ends(*rows_[size_t(r.row)]))
        leave(r.row);
      else
        go_on.emplace_back(r.row, steps_->logits_row(r.row));
    }
    if (go_on.empty()) return;
    const gpu_trace::Scope scope(options_.trace, -1, "next token");
    decide(steps_->logits(), go_on);
  }

  // Whether the token that was just run was a sequence's last.
  bool ends(const Live& live) const {
    return std::ssize(result_.tokens[size_t(live.sequence)]) ==
               sequences_[size_t(live.sequence)].max_new_tokens ||
           (options_.stops && options_.stops(live.token));
  }

  // Maps of recorded steps but the last `left`.
  void deliver(size_t left) {
    for (; waiting_.size() > left; waiting_.pop_front()) {
      const StepMaps maps = steps_->take_maps();
      if (callbacks_.maps) callbacks_.maps(waiting_.front(), maps);
    }
  }

  // The next tokens of some rows. rows: (row of the cache, row of the logits).
  void decide(const Logits& logits, std::span<const std::pair<int, int>> rows) {
    const Choice choice = on_device_ ? chosen_there(logits, rows) : chosen_here(logits, rows);
    for (const auto& [row, of_logits] : rows) {
      Live& live = *rows_[size_t(row)];
      live.token = choice.token[size_t(of_logits)];
      result_.tokens[size_t(live.sequence)].push_back(live.token);
      if (callbacks_.token) callbacks_.token(live.sequence, live.token, choice.nll[size_t(of_logits)]);
    }
  }

  // Each row's by its own sampler; those of rows that are not asked for mean nothing.
  Choice chosen_here(const Logits& logits, std::span<const std::pair<int, int>> rows) {
    Choice choice{std::vector<int32_t>(size_t(logits.n_rows()), 0), {}};
    logits.row(0);  // the copy for all threads
#pragma omp parallel for schedule(dynamic) if (rows.size() > 1)
    for (size_t i = 0; i < rows.size(); ++i) {
      const auto& [row, of_logits] = rows[i];
      choice.token[size_t(of_logits)] = rows_[size_t(row)]->sampler.next(logits.row(of_logits));
    }
    choice.nll = nll_of(logits, choice.token);
    return choice;
  }
  // The same on the logits' device: as many as words in the vocabulary need not come here.
  Choice chosen_there(const Logits& logits, std::span<const std::pair<int, int>> rows) {
    std::vector<Draw> draws(size_t(logits.n_rows()));
    bool greedy = true;
    for (const auto& [row, of_logits] : rows) {
      Sampler& sampler = rows_[size_t(row)]->sampler;
      if (sampler.options().temperature == 0) continue;
      greedy = false;
      draws[size_t(of_logits)] = {sampler.options(), sampler.uniform()};
    }
    return greedy ? most_likely(logits) : draw(logits, draws);
  }

  std::span<const BatchSequence> sequences_;
  const BatchOptions& options_;
  const BatchCallbacks& callbacks_;
  bool on_device_;
  KvCache cache_;
  std::unique_ptr<BatchSteps> steps_;
  std::vector<std::optional<Live>> rows_;         // [n_rows]
  std::deque<std::vector<RecordedRow>> waiting_;  // recorded steps whose maps are to be taken
  BatchResult result_;
};

}  // namespace

BatchResult decode_batch(const model::Model& model, const Policy& policy,
                         std::span<const BatchSequence> sequences, const BatchOptions& options,
                         const BatchCallbacks& callbacks) {
  if (options.n_rows < 1) throw bad_input("a batch of {} rows: give at least 1", options.n_rows);
  return Batch(model, policy, sequences, options, callbacks).run();
}

}  // namespace deltacal::decode
