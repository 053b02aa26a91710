#include "record/record.h"

#include <algorithm>

#include "decode/decoder.h"
#include "record/page_recorder.h"
#include "record/sample.h"

namespace deltacal::record {
namespace {

// Appends the NLL of the tokens after positions first..+n-1 of the last pass, as far as `ids` knows them.
void append_nll(std::vector<float>& nll, decode::Decoder& decoder, std::span<const int32_t> ids, int first,
                int n) {
  n = std::min(n, static_cast<int>(ids.size()) - first - 1);
  if (n <= 0) return;
  const auto part = decoder.nll(0, ids.subspan(first + 1, n));
  nll.insert(nll.end(), part.begin(), part.end());
}

}  // namespace

decode::PrefillNeed device_need(const model::Description& d, int n_positions, const RecordOptions& options) {
  decode::PrefillNeed need;
  need.n_positions = n_positions;
  need.n_maps = 2 + (options.group_mass ? d.info.n_kv_heads : 0);
  if (options.sensitivity) sensitivity::Sensitivity::set_need(need, d, options.sensitivity->loss);
  return need;
}

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
  decode::Decoder decoder(model, cache, decode::full_policy(model.info().n_layers), observers, options.trace);

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
  if (pass) {
    pass->finish(sample.ids, sample.n_prompt_tokens, cache);
    out.write_sensitivity(edges_of(*pass, *options.sensitivity), pass->edges().delta());
  }
  out.finish(sample.ids, recorded.steps, recorded.burst, nll);
}

}  // namespace deltacal::record
