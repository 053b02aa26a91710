#include "record/record.h"

#include <algorithm>

#include "core/error.h"
#include "core/hash.h"
#include "decode/generate.h"
#include "record/page_recorder.h"

namespace deltacal::record {
namespace {

trace::SamplePlan plan_of(const text::TokenizedSample& sample, const char* mode, int n_tokens, size_t n_steps,
                          bool group_mass) {
  trace::SamplePlan plan;
  plan.info.id = sample.id;
  plan.info.task = sample.task;
  plan.info.problem = sample.problem;
  plan.info.mode = mode;
  plan.info.n_prompt_tokens = sample.n_prompt_tokens;
  for (const text::Part& part : sample.parts) plan.info.parts.push_back(part.problem);
  plan.max_tokens = n_tokens;
  plan.max_steps = static_cast<int>(n_steps);
  plan.group_mass = group_mass;
  return plan;
}

// Appends the NLL of the tokens after positions first..+n-1 of the last pass, as far as `ids` knows them.
void append_nll(std::vector<float>& nll, decode::Decoder& decoder, std::span<const int32_t> ids, int first,
                int n) {
  n = std::min(n, static_cast<int>(ids.size()) - first - 1);
  if (n <= 0) return;
  const auto part = decoder.nll(0, ids.subspan(first + 1, n));
  nll.insert(nll.end(), part.begin(), part.end());
}

// Of the same tokens and steps, after the whole sequence went by.
void write_sensitivity(sensitivity::Sensitivity& pass, const sensitivity::Options& options,
                       std::span<const int32_t> ids, int n_prompt_tokens, decode::KvCache& cache,
                       trace::SampleWriter& out) {
  pass.finish(ids, n_prompt_tokens, cache);
  trace::EdgeSensitivity edges{options.budgets, options.loss.n_gradients(), pass.edges().edge_kl(), {}};
  for (const Ranking& ranking : options.rankings) {
    const int index = 1 + static_cast<int>(edges.rankings.size());
    edges.rankings.push_back({ranking, pass.edges().edge_kl(index), {}});
    if (ranking.refresh_below) edges.rankings.back().list_made_at = pass.list_made_at(index);
  }
  out.write_sensitivity(edges, pass.edges().delta());
}

}  // namespace

void record_replay(const model::Model& model, const text::TokenizedSample& sample,
                   const RecordOptions& options, trace::Writer& writer, int index, const Advance& advance) {
  const int n_tokens = static_cast<int>(sample.ids.size());
  const RecordedSteps recorded = choose_steps(options.steps, sample.n_prompt_tokens, n_tokens, sample.id);
  trace::SampleWriter out =
      writer.begin(index, plan_of(sample, "replay", n_tokens, recorded.steps.size(), options.group_mass));
  PageRecorder recorder(out, recorded.steps, options.group_mass);
  decode::KvCache cache(model, 1, n_tokens);
  std::vector<decode::Observer*> observers{&recorder};
  std::optional<sensitivity::Sensitivity> pass;
  if (options.sensitivity)
    observers.push_back(&pass.emplace(model, n_tokens, recorded.steps, *options.sensitivity, sample.n_prompt_tokens));
  decode::Decoder decoder(model, cache, decode::full_policy(model.info().n_layers), observers);

  std::vector<float> nll;
  nll.reserve(n_tokens);
  decode::replay(
      decoder, sample.ids, sample.n_prompt_tokens,
      [&](int first, int n) {
        append_nll(nll, decoder, sample.ids, first, n);
        if (advance) advance(n);
      },
      options.chunk);
  recorder.finish();
  if (pass) write_sensitivity(*pass, *options.sensitivity, sample.ids, sample.n_prompt_tokens, cache, out);
  out.finish(sample.ids, recorded.steps, recorded.burst, nll);
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

bool record_decode(const model::Model& model, const text::TokenizedSample& sample,
                   const RecordOptions& options, const DecodeOptions& decoding, trace::Writer& writer,
                   int index, const Advance& advance) {
  check_context(sample, decoding, model.info());
  const int n_prompt = sample.n_prompt_tokens;
  const int n_planned = n_prompt + decoding.max_new_tokens;
  RecordedSteps recorded = choose_steps(options.steps, n_prompt, n_planned, sample.id);
  trace::SampleWriter out =
      writer.begin(index, plan_of(sample, "decode", n_planned, recorded.steps.size(), options.group_mass));
  PageRecorder recorder(out, recorded.steps, options.group_mass);
  decode::KvCache cache(model, 1, n_planned);
  decode::Decoder decoder(model, cache, decode::full_policy(model.info().n_layers), {&recorder});

  std::vector<int32_t> ids(sample.ids.begin(), sample.ids.begin() + n_prompt);
  std::vector<float> nll;
  const decode::GenerateOptions generate_options{decoding.max_new_tokens, decoding.sampling, [&](int32_t id) {
                                                   return model.tokenizer().ends_generation(id);
                                                 }};
  decode::GenerateCallbacks callbacks;
  callbacks.prompt_chunk = [&](int first, int n) {
    append_nll(nll, decoder, ids, first, n);
    if (advance) advance(n);
  };
  callbacks.token = [&](int32_t token, const decode::Logits& decided_by) {
    nll.push_back(decode::nll_of(decided_by, {&token, 1})[0]);
    if (advance) advance(1);
  };
  const auto generated = decode::generate(decoder, ids, generate_options, callbacks);
  recorder.finish();
  ids.insert(ids.end(), generated.begin(), generated.end());

  const auto n_tokens = static_cast<int32_t>(ids.size());
  const auto n_steps =
      std::lower_bound(recorded.steps.begin(), recorded.steps.end(), n_tokens) - recorded.steps.begin();
  if (n_steps == 0) return false;  // the writer removes what it began
  recorded.steps.resize(n_steps);
  recorded.burst.resize(n_steps);
  if (options.sensitivity) {  // the backward pass needs the hidden states of every position: once more, in
                              // chunks
    sensitivity::Sensitivity pass(model, n_tokens, recorded.steps, *options.sensitivity, n_prompt);
    cache.release(0);
    decode::Decoder replay(model, cache, decode::full_policy(model.info().n_layers), {&pass});
    decode::replay(
        replay, ids, n_prompt, [](int, int) {}, options.chunk);
    write_sensitivity(pass, *options.sensitivity, ids, n_prompt, cache, out);
  }
  out.finish(ids, recorded.steps, recorded.burst, nll);
  return true;
}

}  // namespace deltacal::record
