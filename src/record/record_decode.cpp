#include <algorithm>
#include <memory>

#include "core/error.h"
#include "decode/batch.h"
#include "record/record.h"
#include "record/sample.h"
#include "record/writing_thread.h"

namespace deltacal::record {
namespace {

// A prompt and its continuation so far.
struct Continuation {
  const text::TokenizedSample* sample = nullptr;
  int index = 0;             // in the trace
  int n_planned = 0;         // tokens at most
  RecordedSteps recorded{};  // as planned
  std::vector<int32_t> ids{};
  std::vector<float> nll{};
  bool begun = false, written = false;         // something was given to the writer; all was
  std::unique_ptr<trace::SampleWriter> out{};  // the writing thread's alone

  int n_prompt() const { return sample->n_prompt_tokens; }
  // Number of the recorded step at a position, which is one.
  int row_of(int position) const {
    return static_cast<int>(std::ranges::lower_bound(recorded.steps, position) - recorded.steps.begin());
  }
};

// A row of a step's maps, on its way to the trace.
struct MapsRow {
  Continuation* of = nullptr;
  int row = 0, n_pages = 0;
  std::vector<float> score, mass;  // [n_layers, n_pages]
  std::vector<float> group_mass;   // [n_layers, n_kv_heads, n_pages]

  size_t bytes() const { return sizeof(float) * (score.size() + mass.size() + group_mass.size()); }
};

MapsRow copy_of(const decode::StepMaps& maps, const decode::RecordedRow& from, Continuation& of) {
  MapsRow to{&of, of.row_of(from.position), pages_seen(from.position), {}, {}, {}};
  const auto append = [&](std::vector<float>& numbers, std::span<const float> pages) {
    numbers.insert(numbers.end(), pages.begin(), pages.begin() + to.n_pages);
  };
  for (int layer = 0; layer < maps.n_layers; ++layer) {
    append(to.score, maps.score_of(layer, from.row));
    append(to.mass, maps.mass_of(layer, from.row));
    for (int group = 0; maps.group_mass && group < maps.n_kv_heads; ++group)
      append(to.group_mass, maps.group_mass_of(layer, from.row, group));
  }
  return to;
}

void write(const MapsRow& maps, int n_layers) {
  const std::span<const float> score = maps.score, mass = maps.mass, group_mass = maps.group_mass;
  const size_t n = score.size() / size_t(n_layers), n_group = group_mass.size() / size_t(n_layers);
  for (size_t layer = 0; layer < size_t(n_layers); ++layer) {
    maps.of->out->write_pages(int(layer), maps.row, 1, maps.n_pages, score.subspan(layer * n, n),
                              mass.subspan(layer * n, n));
    if (n_group > 0)
      maps.of->out->write_group_mass(int(layer), maps.row, 1, maps.n_pages,
                                     group_mass.subspan(layer * n_group, n_group));
  }
}

// What a sensitivity pass found, on its way to the trace.
struct FoundSensitivity {
  trace::EdgeSensitivity edges;
  std::vector<float> delta;  // [n_gradients, E, pairs, S]

  size_t bytes() const {
    size_t n = delta.size() + edges.kl.size();
    for (const trace::RankedKl& other : edges.rankings) n += other.kl.size() + other.list_made_at.size();
    return 4 * n;  // f32, and int32
  }
};

// The trace's side of a batch. Everything that touches the trace is done by the writing thread.
class BatchRecorder {
 public:
  BatchRecorder(const model::Model& model, std::span<const Prompt> prompts, const RecordOptions& options,
                const DecodeOptions& decoding, trace::Writer& writer, const Advance& advance)
      : model_(model),
        options_(options),
        decoding_(decoding),
        writer_(writer),
        advance_(advance),
        thread_(decoding.writes_beside.value_or(model.device() == model::Device::cuda)) {
    for (const Prompt& prompt : prompts) {
      check_context(*prompt.sample, decoding, model.info());
      Continuation& c = continuations_.emplace_back();
      c.sample = prompt.sample;
      c.index = prompt.index;
      c.n_planned = c.n_prompt() + decoding.max_new_tokens;
      c.recorded = choose_steps(options.steps, c.n_prompt(), c.n_planned, c.sample->id);
      c.ids.assign(c.sample->ids.begin(), c.sample->ids.begin() + c.n_prompt());
    }
  }

  std::vector<bool> run() {
    std::vector<decode::BatchSequence> sequences;
    for (const Continuation& c : continuations_) {
      decode::BatchSequence s{std::span(c.sample->ids).first(size_t(c.n_prompt())), decoding_.max_new_tokens,
                              decoding_.sampling};
      s.sampling.seed += uint64_t(c.index);
      sequences.push_back(s);
    }
    decode::BatchOptions options;
    options.n_rows = decoding_.n_rows;
    options.stops = [&](int32_t id) { return model_.tokenizer().ends_generation(id); };
    options.group_mass = options_.group_mass;
    options.trace = options_.trace;
    decode::decode_batch(model_, decode::full_policy(model_.info().n_layers), sequences, options,
                         callbacks());
    thread_.finish();
    std::vector<bool> written;
    for (const Continuation& c : continuations_) written.push_back(c.written);
    return written;
  }

 private:
  decode::BatchCallbacks callbacks() {
    decode::BatchCallbacks on;
    on.prompt_nll = [this](int sequence, int n_positions, std::span<const float> nll) {
      Continuation& c = continuations_[size_t(sequence)];
      c.nll.insert(c.nll.end(), nll.begin(), nll.end());
      if (advance_) advance_(n_positions);
    };
    on.token = [this](int sequence, int32_t token, float nll) {
      Continuation& c = continuations_[size_t(sequence)];
      c.ids.push_back(token);
      c.nll.push_back(nll);
      if (advance_) advance_(1);
    };
    on.records = [this](int sequence, int position) {
      return std::ranges::binary_search(continuations_[size_t(sequence)].recorded.steps, position);
    };
    on.maps = [this](std::span<const decode::RecordedRow> rows, const decode::StepMaps& maps) {
      take(rows, maps);
    };
    on.finished = [this](int sequence) { finish(continuations_[size_t(sequence)]); };
    return on;
  }

  void take(std::span<const decode::RecordedRow> rows, const decode::StepMaps& maps) {
    for (const decode::RecordedRow& row : rows) {
      Continuation& c = continuations_[size_t(row.sequence)];
      if (!std::exchange(c.begun, true)) begin(c);
      auto copy = std::make_shared<MapsRow>(copy_of(maps, row, c));
      thread_.add(copy->bytes(), [copy, n_layers = maps.n_layers] { write(*copy, n_layers); });
    }
  }

  // Planned here, not by the thread: by the time it comes to this the continuation may have ended early.
  void begin(Continuation& c) {
    thread_.add(
        0, [this, &c,
            plan = plan_of(*c.sample, "decode", c.n_planned, c.recorded.steps.size(), options_.group_mass)] {
          c.out = std::make_unique<trace::SampleWriter>(writer_.begin(c.index, plan));
        });
  }

  void finish(Continuation& c) {
    const auto n_tokens = static_cast<int32_t>(c.ids.size());
    const size_t n_steps = size_t(c.row_of(n_tokens));
    if (n_steps == 0) return;
    c.recorded.steps.resize(n_steps);
    c.recorded.burst.resize(n_steps);
    if (options_.sensitivity) {
      auto found = std::make_shared<const FoundSensitivity>(find_sensitivity(c));
      thread_.add(found->bytes(), [&c, found] { c.out->write_sensitivity(found->edges, found->delta); });
    }
    thread_.add(0, [&c] {
      c.out->finish(c.ids, c.recorded.steps, c.recorded.burst, c.nll);
      c.out.reset();
    });
    c.written = true;
  }

  // The backward pass needs the hidden states of every position: once more, in chunks. What the pass holds,
  // much of it the device's memory, goes before anything waits to be written.
  FoundSensitivity find_sensitivity(const Continuation& c) {
    // The cache first: what the pass keeps takes what is left.
    decode::KvCache cache(model_, 1, static_cast<int>(c.ids.size()));
    sensitivity::Sensitivity pass(model_, static_cast<int>(c.ids.size()), c.recorded.steps,
                                  *options_.sensitivity, c.n_prompt());
    decode::Decoder replay(model_, cache, decode::full_policy(model_.info().n_layers), {&pass},
                           options_.trace);
    decode::replay(
        replay, c.ids, c.n_prompt(), [](int, int) {}, options_.chunk);
    pass.finish(c.ids, c.n_prompt(), cache);
    const std::span<const float> delta = pass.edges().delta();
    return {edges_of(pass, *options_.sensitivity), {delta.begin(), delta.end()}};
  }

  const model::Model& model_;
  const RecordOptions& options_;
  const DecodeOptions& decoding_;
  trace::Writer& writer_;
  const Advance& advance_;
  std::vector<Continuation> continuations_;
  WritingThread thread_;  // the last, so that it ends before what it works on
};

}  // namespace

decode::StepUse device_use(const model::Description& d, int longest, const RecordOptions& options,
                           const DecodeOptions& decoding) {
  decode::StepUse use{
      .draws = decoding.sampling.temperature > 0, .records = true, .group_mass = options.group_mass};
  if (options.sensitivity) {
    // A replay in a cache of its own, which takes no less than its prompt did. What that left for its logits
    // is still there.
    const decode::StepMemory replayed = prefill_memory(d, device_need(d, longest, options));
    use.besides = replayed.cache + replayed.buffers + decode::bytes_kept_for_logits(d, longest);
  } else {
    use.prefills = true;
  }
  return use;
}

void check_context(const text::TokenizedSample& sample, const DecodeOptions& decoding,
                   const ModelInfo& model) {
  const int n_prompt = sample.n_prompt_tokens;
  if (decoding.max_new_tokens > model.max_context - n_prompt)
    throw bad_input(
        "sample {}: a prompt of {} tokens and {} new ones exceed the model's context of {}: lower "
        "--max-new-tokens",
        sample.id, n_prompt, decoding.max_new_tokens, model.max_context);
}

std::vector<bool> record_decode(const model::Model& model, std::span<const Prompt> prompts,
                                const RecordOptions& options, const DecodeOptions& decoding,
                                trace::Writer& writer, const Advance& advance) {
  return BatchRecorder(model, prompts, options, decoding, writer, advance).run();
}

}  // namespace deltacal::record
