#include <algorithm>
#include <cstdio>
#include <mutex>
#include <nlohmann/json.hpp>
#include <numeric>

#include "calib/baselines.h"
#include "calib/comparison.h"
#include "calib/split.h"
#include "calib/to_config.h"
#include "calib/validation_json.h"
#include "config/config.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/progress.h"
#include "decode/kv_cache.h"
#include "evaluate/evaluate.h"
#include "gpu_trace_output.h"
#include "inputs.h"
#include "outputs.h"
#include "side_by_side.h"

namespace deltacal::tools {
namespace {

struct NamedConfig {
  std::string name, path;
  config::Config config;
};

// The first is under test, policy "delta"; the others are "delta:NAME".
std::vector<NamedConfig> read_configs(const std::vector<std::string>& arguments) {
  std::vector<NamedConfig> configs;
  for (const auto& argument : arguments) {
    const size_t equals = argument.find('=');
    if (configs.empty()) {
      configs.push_back({"delta", argument, config::read(argument)});
      continue;
    }
    if (equals == std::string::npos || equals == 0)
      throw bad_input("--config {}: after the first, give NAME=FILE", argument);
    const std::string name = "delta:" + argument.substr(0, equals), path = argument.substr(equals + 1);
    for (const auto& other : configs)
      if (other.name == name)
        throw bad_input("--config {}: the name {} is taken", argument, argument.substr(0, equals));
    configs.push_back({name, path, config::read(path)});
  }
  return configs;
}

// No sample that the calibration has seen, in any of the configs.
void refuse_overlap(const std::vector<NamedConfig>& configs,
                    const std::vector<text::TokenizedSample>& samples) {
  std::vector<calib::SplitSample> ours;
  for (const auto& s : samples) ours.push_back(to_split(s));
  for (const auto& c : configs) {
    const auto seen = calib::calibrated_on(c.config, c.path);
    if (seen.empty())
      fmt::print(stderr,
                 "warning: {} does not say what it was calibrated on: an overlap with these samples cannot "
                 "be ruled out\n",
                 c.path);
    const auto overlap = calib::overlaps(ours, seen);
    if (overlap.empty()) continue;
    throw bad_input(
        "{} of {} samples were seen when {} was calibrated, first {} (the same {}): hold out other problems, "
        "or --allow-overlap",
        overlap.size(), samples.size(), c.path, samples[overlap[0].ours].id,
        overlap[0].same_tokens ? "tokens" : "problem");
  }
}

std::vector<config::StepRange> ranges_of(const std::vector<text::TokenizedSample>& samples) {
  std::vector<config::StepRange> ranges;
  for (const auto& s : samples) ranges.push_back({s.n_prompt_tokens, static_cast<int>(s.ids.size())});
  return ranges;
}

// Positions that a schedule attends to in a run.
long long measured(const config::Schedule& schedule, const std::vector<text::TokenizedSample>& samples,
                   const model::Model& model) {
  std::vector<long long> attended(samples.size());
  const auto need = evaluate::device_need(model.description(), 1, longest_tokens(samples));
  side_by_side(samples.size(), workers_for(samples.size(), model, need), [&](size_t i) {
    const auto& s = samples[i];
    const auto scores =
        evaluate::evaluate(model, s.ids, s.n_prompt_tokens, {{"", decode::delta_policy(schedule)}},
                           {.recall_steps = 0}, nullptr);
    attended[i] = scores.policies[0].attended;
  });
  return std::accumulate(attended.begin(), attended.end(), 0LL);
}

// The window at the cost of the config under test; with adaptive refresh only a run tells that cost.
evaluate::NamedPolicy streaming_like(const config::Schedule& schedule,
                                     const std::vector<text::TokenizedSample>& samples,
                                     const model::Model& model) {
  std::optional<long long> attended;
  if (schedule.refresh) attended = measured(schedule, samples, model);
  const auto streaming = calib::streaming_pages(calib::StepCosts(ranges_of(samples)), schedule, attended);
  if (streaming.excess > 0.01)
    fmt::print(stderr,
               "warning: streaming attends to {:.1f}% more tokens than the config under test: no window "
               "comes closer\n",
               100 * streaming.excess);
  return {"streaming", decode::streaming_policy(streaming.pages)};
}

calib::EvaluatedSample to_evaluated(const text::TokenizedSample& sample, evaluate::SampleScores scores) {
  calib::EvaluatedSample out;
  out.id = sample.id;
  out.problem = sample.problem;
  out.first_step = scores.first_step;
  out.n_tokens = static_cast<int>(sample.ids.size());
  out.nll_full = std::move(scores.nll_full);
  out.positions = scores.positions;
  for (auto& p : scores.policies) {
    calib::EvaluatedPolicy policy{std::move(p.nll), std::move(p.kl), std::move(p.top1), p.attended, {}};
    for (const auto& r : p.recall) policy.recall.push_back({r.layer, r.mean});
    out.policies.push_back(std::move(policy));
  }
  return out;
}

std::string interval(const calib::Estimate& e) {
  if (!e.low) return fmt::format("{:.4f}", e.mean);
  return fmt::format("{:.4f} ({:.4f} to {:.4f})", e.mean, *e.low, *e.high);
}

void print_summary(const calib::Validation& v, const std::string& out) {
  fmt::print("{}: {} samples, {} problems\n", out, v.n_samples, v.n_problems);
  if (v.policies[0].active.n_steps == 0)
    fmt::print(
        "no active step: no sample sees more pages than the smallest k of the config, so nothing was left "
        "out; use longer traces\n");
  if (!v.no_interval_reason.empty()) fmt::print("no intervals: {}\n", v.no_interval_reason);
  fmt::print("{:<22} {:>8}  {:<30} {:>9} {:>7}\n", "policy", "ratio", "NLL gap, nats a token", "KL", "top-1");
  for (const auto& p : v.policies) {
    if (p.active.n_steps == 0) {
      fmt::print("{:<22} {:>8.2f}  -\n", p.name, p.attended_ratio);
      continue;
    }
    fmt::print("{:<22} {:>8.2f}  {:<30} {:>9.4f} {:>6.1f}%\n", p.name, p.attended_ratio,
               interval(p.active.nll_gap), p.active.kl.mean, 100 * p.active.top1);
  }
  for (const auto& t : v.thresholds) fmt::print("{} {}: {}\n", t.name, t.limit, t.met ? "met" : "NOT met");
}

void print_plan(const ValidateOptions& o, const Inputs& in, size_t n_policies) {
  std::vector<int> lengths;
  for (const auto& s : in.data.samples) lengths.push_back(static_cast<int>(s.ids.size()));
  const model::Description& d = in.header.description;
  const double caches = 1e-9 * longest_tokens(in.data.samples) *
                        decode::KvCache::bytes_per_position(d.info, in.dtype) * double(n_policies + 1) *
                        double(most_workers(lengths.size(), in.device));
  fmt::print("would run {} samples under full attention and {} policies, into {}\n", lengths.size(),
             n_policies, o.out);
  fmt::print("memory about {:.1f} GB\n", weight_gigabytes(d, in.dtype) + caches + 1);
  print_device_memory(" for one sample", in,
                      evaluate::device_need(d, int(n_policies), longest_tokens(in.data.samples)));
  if (in.device == model::Device::cpu)
    fmt::print("time at least {:.0f} s\n",
               forward_flops(d, lengths) * double(n_policies + 1) / model::measure_linear_rate(in.dtype));
}

}  // namespace

int validate(const ValidateOptions& o) {
  require_free_outputs({o.out, o.gpu_trace}, o.existing());
  const auto configs = read_configs(o.configs);
  const Inputs in = read_inputs(o, o);
  check_gpu_trace(o.gpu_trace, in.device);
  for (const auto& c : configs) {
    const std::string warning = config::check_model(c.config, c.path, in.header.description.info);
    if (!warning.empty()) fmt::print(stderr, "warning: {}\n", warning);
  }
  if (!o.allow_overlap) refuse_overlap(configs, in.data.samples);
  if (std::find(o.policies.begin(), o.policies.end(), "delta") == o.policies.end())
    throw bad_input("--policies must name delta: it is what the thresholds judge");
  const bool streaming = std::find(o.policies.begin(), o.policies.end(), "streaming") != o.policies.end();
  if (o.dry_run) {
    print_plan(o, in, configs.size() + streaming);
    return 0;
  }

  const decode::PrefillNeed need = evaluate::device_need(
      in.header.description, int(configs.size()) + streaming, longest_tokens(in.data.samples));
  check_device_memory("validate", in, need);
  const model::Model model = load_model(o, in);
  GpuTraceOutput trace(o.gpu_trace, model.device(), o.existing());
  std::vector<evaluate::NamedPolicy> policies;
  for (const auto& c : configs) policies.push_back({c.name, decode::delta_policy(c.config.schedule)});
  if (streaming) policies.push_back(streaming_like(configs[0].config.schedule, in.data.samples, model));
  calib::Evaluation evaluation;
  for (const auto& p : policies) evaluation.policies.push_back(p.name);
  evaluation.smallest_k = decode::smallest_k(policies[0].policy);
  evaluation.with_full = std::find(o.policies.begin(), o.policies.end(), "full") != o.policies.end();
  {
    double n_tokens = 0;
    for (const auto& s : in.data.samples) n_tokens += double(s.ids.size());
    Progress progress("validate", n_tokens, "tokens");
    std::mutex mutex;  // of progress
    const auto advance = [&](int n) {
      const std::lock_guard lock(mutex);
      progress.advance(n);
    };
    evaluation.samples.resize(in.data.samples.size());
    const size_t n_samples = in.data.samples.size();
    side_by_side(n_samples, workers_for(n_samples, model, need), [&](size_t i) {
      const auto& s = in.data.samples[i];
      evaluation.samples[i] = to_evaluated(
          s, evaluate::evaluate(model, s.ids, s.n_prompt_tokens, policies,
                                {.recall_steps = o.recall_steps, .trace = trace.session()}, advance));
    });
  }

  calib::Validation validation =
      calib::compare(evaluation, {o.max_nll_gap, o.min_attended_ratio}, {o.resamples, o.made.seed, 0.95});
  validation.model = model.info();
  validation.model.device = device_name(model.device());
  validation.config_path = configs[0].path;
  validation.config_sha256 = sha256_of_file(configs[0].path);
  validation.schedule = config::describe(configs[0].config.schedule);
  validation.data_path = o.data;
  validation.data_sha256 = in.data.sha256;
  validation.max_tokens = o.max_tokens;
  validation.pack = o.pack;
  write_file_atomically(o.out, calib::to_json(validation, o.made).dump() + "\n", o.existing());
  print_summary(validation, o.out);
  trace.finish();
  return validation.passed.value_or(true) ? 0 : static_cast<int>(Status::not_met);
}

}  // namespace deltacal::tools
