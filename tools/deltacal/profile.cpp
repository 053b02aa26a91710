#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "calib/recall.h"
#include "core/error.h"
#include "core/progress.h"
#include "decode/device_info.h"
#include "decode/kv_cache.h"
#include "gpu_trace_output.h"
#include "inputs.h"
#include "outputs.h"
#include "record/record.h"

namespace deltacal::tools {
namespace {

struct Shard {
  int index = 0, count = 1;
};

Shard parse_shard(const std::string& text) {
  Shard shard;
  int end = 0;
  if (std::sscanf(text.c_str(), "%d/%d%n", &shard.index, &shard.count, &end) != 2 ||
      end != (int)text.size() || shard.count < 1 || shard.index < 0 || shard.index >= shard.count)
    throw bad_input("--shard {}: give i/n with 0 <= i < n, such as 0/4", text);
  return shard;
}

// The samples of this shard.
std::vector<text::TokenizedSample> in_shard(std::vector<text::TokenizedSample> samples, const Shard& shard) {
  std::vector<text::TokenizedSample> kept;
  for (size_t i = shard.index; i < samples.size(); i += shard.count) kept.push_back(std::move(samples[i]));
  if (kept.empty())
    throw bad_input("--shard {}/{}: there are only {} samples", shard.index, shard.count, samples.size());
  return kept;
}

// Everything that decides the trace's content; compared when a run is resumed.
nlohmann::json plan_of(const ProfileOptions& o, const Inputs& in) {
  nlohmann::json plan{{"data_sha256", in.data.sha256},
                      {"mode", o.mode},
                      {"steps", o.steps},
                      {"maps", o.maps},
                      {"shard", o.shard},
                      {"limit", o.limit},
                      {"max_tokens", o.max_tokens},
                      {"min_tokens", o.min_tokens},
                      {"chat", in.chat},
                      {"dtype", model::name_of(in.dtype)}};
  if (in.device == model::Device::cuda) plan["device"] = model::name_of(in.device);
  if (o.sensitivity) {
    plan.update({{"sensitivity", true}, {"draws", o.draws}, {"k_pages", o.k_pages}, {"l_pages", o.l_pages}});
    if (o.draws > 0) plan["seed"] = o.made.seed;
    if (!o.rankings.empty()) plan["rankings"] = o.rankings;
  }
  if (o.pack > 0) plan["pack"] = o.pack;
  if (!o.task.empty()) plan["task"] = o.task;
  if (o.batch > 0) plan["batch"] = o.batch;  // decides what rounds where
  if (o.mode == "decode")
    plan.update({{"max_new_tokens", o.max_new_tokens},
                 {"temperature", o.temperature},
                 {"top_p", o.top_p},
                 {"top_k", o.top_k},
                 {"seed", o.made.seed}});
  return plan;
}

// What the sensitivity pass computes; empty unless asked for.
std::optional<sensitivity::Options> sensitivity_of(const ProfileOptions& o) {
  if (!o.sensitivity) return std::nullopt;
  const calib::Grid grid{o.k_pages, o.l_pages};
  calib::check(grid);
  sensitivity::Options options{grid.pairs(), {o.draws, o.made.seed}};
  options.rankings = parse_rankings(o.rankings);
  return options;
}

int tokens_of(const ProfileOptions& o, const text::TokenizedSample& sample) {
  return static_cast<int>(sample.ids.size()) + (o.mode == "decode" ? o.max_new_tokens : 0);
}

int longest_of(const ProfileOptions& o, const std::vector<text::TokenizedSample>& samples) {
  int longest = 0;
  for (const auto& sample : samples) longest = std::max(longest, tokens_of(o, sample));
  return longest;
}

// How many are decoded at once: --batch, or as many as fit.
int batch_of(const ProfileOptions& o, const Inputs& in, const std::vector<text::TokenizedSample>& samples,
             const record::RecordOptions& options, const record::DecodeOptions& decoding) {
  const int longest = longest_of(o, samples);
  return settle_batch(o.batch, in, static_cast<int>(samples.size()), longest,
                      record::device_use(in.header.description, longest, options, decoding));
}

void print_plan(const ProfileOptions& o, const Inputs& in, const std::vector<text::TokenizedSample>& samples,
                const record::RecordOptions& options, const record::DecodeOptions& decoding) {
  const int n_rows = decoding.n_rows;
  const model::Description& d = in.header.description;
  const auto& sensitivity = options.sensitivity;
  std::vector<int> lengths;
  double tokens = 0, trace = 0, pass = 0;  // pass: memory of the sensitivity pass
  const auto choice = record::parse_steps(o.steps);
  for (const auto& sample : samples) {
    lengths.push_back(tokens_of(o, sample));
    tokens += lengths.back();
    const auto steps =
        record::choose_steps(choice, sample.n_prompt_tokens, lengths.back(), sample.id).steps.size();
    trace += 6.0 * d.info.n_layers * double(steps) * pages_for(lengths.back());
    if (!sensitivity) continue;
    const int n_steps = static_cast<int>(steps);
    pass = std::max(pass, 1e-9 * sensitivity::Sensitivity::bytes(d, lengths.back(), n_steps, *sensitivity));
    trace += 1.0 * sensitivity->loss.n_gradients() * sensitivity->budgets.size() * d.info.n_layers *
             (d.info.n_layers + 1) * n_steps;
    trace += 4.0 * double(1 + sensitivity->rankings.size()) * sensitivity->budgets.size() * d.info.n_layers *
             d.info.n_layers;
    for (const Ranking& ranking : sensitivity->rankings)
      if (ranking.refresh_below) trace += 4.0 * d.info.n_layers * lengths.back();
  }
  const int longest = *std::max_element(lengths.begin(), lengths.end());
  const double cache = 1e-9 * n_rows * longest * decode::KvCache::bytes_per_position(d.info, in.dtype);
  // Forward, forward again for the backward pass, and twice the work of a forward pass for each gradient.
  const double passes = sensitivity ? 2 + 2 * sensitivity->loss.n_gradients() : 1;
  const double flops = passes * forward_flops(d, lengths);
  fmt::print("would record {} samples, {:.0f} tokens, into {}\n", samples.size(), tokens, o.out);
  fmt::print("memory about {:.1f} GB (weights {:.2f}, KV cache {:.2f} for {}{} positions{})\n",
             weight_gigabytes(d, in.dtype) + cache + pass + 0.5, weight_gigabytes(d, in.dtype), cache,
             n_rows > 1 ? fmt::format("{} x ", n_rows) : "", longest,
             sensitivity ? fmt::format(", sensitivity pass {:.2f}", pass) : "");
  if (o.mode == "decode")
    print_device_memory("", in,
                        decode::step_memory(d, model::Model::device_bytes(d), n_rows, longest,
                                            record::device_use(d, longest, options, decoding)));
  else
    print_device_memory("", in, record::device_need(d, longest, options));
  fmt::print("disk at most {:.2f} GB before compression\n", 1e-9 * trace);
  if (in.device == model::Device::cpu)
    fmt::print("time at least {:.0f} s{}\n", flops / model::measure_linear_rate(in.dtype),
               o.mode == "decode" ? fmt::format(", several times that in steps of {} token{}", n_rows,
                                                n_rows == 1 ? "" : "s")
                                  : "");
}

// Of `samples`, those that a trace does not hold yet.
std::vector<record::Prompt> left_to_do(const std::vector<text::TokenizedSample>& samples,
                                       const trace::Writer& writer) {
  std::vector<record::Prompt> prompts;
  for (int i = 0; i < static_cast<int>(samples.size()); ++i)
    if (!writer.has(i)) prompts.push_back({&samples[size_t(i)], i});
  return prompts;
}

// Returns how many were recorded.
int decode_all(const model::Model& model, std::span<const record::Prompt> prompts,
               const record::RecordOptions& options, const record::DecodeOptions& decoding,
               trace::Writer& writer, const record::Advance& advance) {
  const std::vector<bool> written = record::record_decode(model, prompts, options, decoding, writer, advance);
  for (size_t i = 0; i < prompts.size(); ++i)
    if (!written[i])
      fmt::print(stderr,
                 "sample {} is left out: its continuation ended before the first step to record (--steps all "
                 "records it)\n",
                 prompts[i].sample->id);
  return static_cast<int>(std::ranges::count(written, true));
}

}  // namespace

int profile(const ProfileOptions& o) {
  const Shard shard = parse_shard(o.shard);
  record::RecordOptions record_options;
  record_options.steps = record::parse_steps(o.steps);
  record_options.group_mass = o.maps == "heads";
  record_options.sensitivity = sensitivity_of(o);
  record::DecodeOptions decode_options{o.max_new_tokens, {o.temperature, o.top_k, o.top_p, o.made.seed}};
  decode::check(decode_options.sampling);
  if (!o.resume) require_free_output(o.out, o.existing());  // resumed, it may be this run's own
  require_different_outputs({o.out, o.gpu_trace});
  require_free_outputs({o.gpu_trace}, o.existing());

  const Inputs in = read_inputs(o, o, o.mode == "decode");
  check_gpu_trace(o.gpu_trace, in.device);
  const auto samples = in_shard(in.data.samples, shard);
  for (const auto& sample : samples) {
    if (o.mode == "decode") record::check_context(sample, decode_options, in.header.description.info);
    record::choose_steps(record_options.steps, sample.n_prompt_tokens, tokens_of(o, sample), sample.id);
  }
  if (o.mode == "decode") decode_options.n_rows = batch_of(o, in, samples, record_options, decode_options);
  if (o.dry_run) {
    print_plan(o, in, samples, record_options, decode_options);
    return 0;
  }
  if (o.mode == "replay")
    check_device_memory("profile", in,
                        record::device_need(in.header.description, longest_of(o, samples), record_options));

  ModelInfo info = in.header.description.info;
  info.dtype = model::name_of(in.dtype);
  info.device = device_name(in.device);
  using Start = trace::Writer::Start;
  trace::Writer writer(o.out,
                       o.resume  ? Start::resume
                       : o.force ? Start::replace
                                 : Start::fresh,
                       info, o.made, plan_of(o, in));
  const auto prompts = left_to_do(samples, writer);
  double n_tokens = 0;  // still to do; in decode mode at most
  for (const auto& [sample, index] : prompts) n_tokens += tokens_of(o, *sample);
  const model::Model model = load_model(o, in);
  GpuTraceOutput trace(o.gpu_trace, model.device(), o.existing());
  record_options.trace = trace.session();
  int n_recorded = static_cast<int>(samples.size() - prompts.size());
  {
    Progress progress("profile", n_tokens, "tokens");
    const auto advance = [&](int n) { progress.advance(n); };
    if (o.mode == "decode") {
      n_recorded += decode_all(model, prompts, record_options, decode_options, writer, advance);
    } else {
      for (const auto& [sample, index] : prompts)
        record::record_replay(model, *sample, record_options, writer, index, advance);
      n_recorded = static_cast<int>(samples.size());
    }
  }
  if (n_recorded == 0) {
    writer.discard();
    throw bad_input("no continuation reached a step to record: use --steps all, or other prompts");
  }
  writer.finish();
  trace.finish();
  fmt::print("{}: {} samples\n", o.out, n_recorded);
  return 0;
}

}  // namespace deltacal::tools
