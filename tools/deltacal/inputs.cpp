#include "inputs.h"

#include <algorithm>
#include <cstdio>

#include "core/error.h"
#include "core/hash.h"
#include "decode/decoder.h"
#include "decode/device_info.h"
#include "model/shape.h"

namespace deltacal::tools {
namespace {

void choose(const ModelOptions& o, Inputs& in) {
  // f32 is the CPU's alone, so `auto` need not look further.
  in.device = model::choose_device(o.device == "auto" && o.dtype == "f32" ? "cpu" : o.device);
  model::set_threads(o.threads);
  in.dtype = model::choose_dtype(o.dtype, in.device);
}

// `auto` takes the CPU for a model that cannot run on the device.
void settle_device(const ModelOptions& o, Inputs& in) {
  if (in.device == model::Device::cpu) return;
  const std::string why = decode::why_not_on_cuda(in.header.description.info);
  if (why.empty()) return;
  if (o.device == "cuda") throw bad_input("--device cuda: {}: use --device cpu", why);
  fmt::print(stderr, "not on the CUDA device: {}\n", why);
  in.device = model::Device::cpu;
  in.dtype = model::choose_dtype(o.dtype);
}

text::TokenizedData prompts(const std::vector<text::Sample>& samples, const DataOptions& o,
                            const text::Tokenizer& tokenizer, text::ChatPreset preset) {
  if (o.max_tokens > 0 || o.min_tokens > 0)
    throw bad_input(
        "--max-tokens and --min-tokens select given text: with --mode decode use --max-new-tokens");
  if (o.pack > 0)
    throw bad_input(
        "--pack joins solved problems to long samples: with --mode decode each prompt is continued");
  text::TokenizedData data;
  data.sha256 = sha256_of_file(o.data);
  for (const auto& sample : samples) {
    if (o.limit > 0 && static_cast<int>(data.samples.size()) == o.limit) break;
    text::TokenizedSample t{
        sample.id, sample.task, sample.problem, sample.answer, text::prompt_ids(sample, tokenizer, preset),
        0,         ""};
    t.n_prompt_tokens = static_cast<int>(t.ids.size());
    t.sha256 = sha256_of_tokens(t.ids);
    data.samples.push_back(std::move(t));
  }
  return data;
}

std::vector<std::string> parts_of(const text::TokenizedSample& sample) {
  std::vector<std::string> problems;
  for (const text::Part& part : sample.parts) problems.push_back(part.problem);
  return problems;
}

void check_pack(const DataOptions& o, int max_context) {
  if (o.pack > max_context) throw bad_input("--pack {}: the model's context is {}", o.pack, max_context);
  if (o.pack > 0 && o.max_tokens > 0 && o.max_tokens < o.pack)
    throw bad_input("--max-tokens {} would cut the samples that --pack {} joins: give at least as many",
                    o.max_tokens, o.pack);
}

// What became of the lines of a file.
void say_what_was_read(const DataOptions& o, const text::TokenizedData& data) {
  if (o.pack > 0) {
    size_t n_joined = 0, n_lines = 0;
    for (const auto& s : data.samples)
      if (s.parts.size() > 1) ++n_joined, n_lines += s.parts.size();
    fmt::print(
        stderr,
        "{}: {} lines are packed into {} samples of at least {} tokens, {} samples are one line, {} lines "
        "are left over\n",
        o.data, n_lines, n_joined, o.pack, data.samples.size() - n_joined, data.n_left_over);
  }
  if (data.n_too_short > 0)
    fmt::print(stderr, "{}: {} samples shorter than {} tokens are left out\n", o.data, data.n_too_short,
               o.min_tokens);
}

}  // namespace

calib::SplitSample to_split(const text::TokenizedSample& s) {
  return {s.task, s.problem, s.sha256, parts_of(s)};
}
calib::SplitSample to_split(const trace::SampleInfo& s) {
  return {s.task, s.problem, s.sha256, s.parts};
}
calib::CalibrationSample to_record(const text::TokenizedSample& s) {
  return {s.id, s.task, s.problem, s.sha256, parts_of(s)};
}
calib::CalibrationSample to_record(const trace::SampleInfo& s) {
  return {s.id, s.task, s.problem, s.sha256, s.parts};
}

Inputs read_inputs(const ModelOptions& m, const DataOptions& d, bool prompts_only) {
  Inputs in;
  choose(m, in);
  auto samples = text::read_jsonl(d.data);
  if (!d.task.empty())
    for (auto& s : samples) s.task = d.task;
  in.header = model::read_header(m.model);
  settle_device(m, in);
  const text::Tokenizer tokenizer(in.header.vocabulary);
  const text::ChatPreset preset = text::choose_preset(d.chat, in.header.vocabulary);
  in.chat = text::name_of(preset);
  const ModelInfo& info = in.header.description.info;
  check_pack(d, info.max_context);
  if (prompts_only) {
    in.data = prompts(samples, d, tokenizer, preset);
  } else {
    in.data = text::tokenize(
        samples, d.data, &tokenizer, preset,
        {d.max_tokens, d.min_tokens, info.max_context, in.header.description.n_vocab, d.limit, d.pack});
  }
  if (in.data.samples.empty())
    throw bad_input(
        "{}: no sample is left ({} shorter than --min-tokens {}): lower it, or give longer traces", d.data,
        in.data.n_too_short, d.min_tokens);
  say_what_was_read(d, in.data);
  return in;
}

Inputs read_head(const ModelOptions& o) {
  Inputs in;
  choose(o, in);
  in.header = model::read_header(o.model);
  settle_device(o, in);
  return in;
}

Inputs read_head_of_shape(const ModelOptions& o, const std::string& name) {
  const model::Shape shape = model::read_shape(name);
  Inputs in;
  choose(o, in);
  in.header.description = shape.description;
  settle_device(o, in);
  if (!shape.left_out.empty())
    fmt::print(stderr, "{}: left out are {}\n", shape.description.info.name, shape.left_out);
  return in;
}

namespace {
void say_what_runs(const Inputs& in, const char* weights) {
  const ModelInfo& info = in.header.description.info;
  const std::string where = in.device == model::Device::cuda
                                ? "on a CUDA device"
                                : fmt::format("on the CPU with {} threads", model::n_threads());
  fmt::print(stderr, "{}{}: {} layers, {} query and {} key/value heads, {} in {}\n", info.name, weights,
             info.n_layers, info.n_heads, info.n_kv_heads, where, model::name_of(in.dtype));
}
}  // namespace

std::string device_name(model::Device device) {
  return device == model::Device::cuda ? decode::device_info().name : model::name_of(device);
}

model::Model load_model(const ModelOptions& o, const Inputs& in) {
  say_what_runs(in, "");
  return model::Model::load(o.model, in.dtype, in.header, in.device);
}

model::Model load_model(const ModelOptions& o) {
  return load_model(o, read_head(o));
}

model::Model random_model(const Inputs& in, uint64_t seed) {
  say_what_runs(in, ", random weights");
  return model::Model::random(in.header.description, in.dtype, in.device, seed);
}

int settle_batch(int given, const Inputs& in, int n_sequences, int longest, const decode::StepUse& use) {
  constexpr int usual = 32;
  const model::Description& d = in.header.description;
  const bool on_device = in.device == model::Device::cuda;
  int n = std::max(1, std::min(n_sequences, given > 0 ? given : on_device ? usual : 1));
  if (on_device) {
    const size_t weights = model::Model::device_bytes(d), free = decode::device_info().free_bytes;
    if (given == 0) n = std::max(1, decode::rows_that_fit(n, d, weights, longest, free, use));
    decode::check_memory(fmt::format("--batch {} with {} positions each", n, longest), d, weights, n, longest,
                         free, use);
  }
  if (n > 1) fmt::print(stderr, "{} sequences, {} at once\n", n_sequences, n);
  return n;
}

double forward_flops(const model::Description& d, const std::vector<int>& lengths) {
  const ModelInfo& m = d.info;
  const double per_token =
      2.0 * m.n_layers *
          (double(d.n_embd) * m.head_dim * (2 * m.n_heads + 2 * m.n_kv_heads) + 3.0 * d.n_embd * d.n_ff) +
      2.0 * d.n_embd * d.n_vocab;
  double flops = 0;
  for (const int n : lengths) flops += n * per_token + 2.0 * n * n * m.n_layers * m.n_heads * m.head_dim;
  return flops;
}

double weight_gigabytes(const model::Description& d, model::Dtype dtype) {
  const ModelInfo& m = d.info;
  const double matrices =
      double(m.n_layers) *
      (double(d.n_embd) * m.head_dim * (2 * m.n_heads + 2 * m.n_kv_heads) + 3.0 * d.n_embd * d.n_ff);
  const double tables = double(d.n_vocab) * d.n_embd * (d.tied_output ? 1 : 2);
  return 1e-9 * (matrices * (dtype == model::Dtype::bf16 ? 2 : 4) + tables * 4);
}

int longest_tokens(const std::vector<text::TokenizedSample>& samples) {
  size_t longest = 0;
  for (const auto& s : samples) longest = std::max(longest, s.ids.size());
  return static_cast<int>(longest);
}

void check_device_memory(const std::string& command, const Inputs& in, decode::PrefillNeed need) {
  if (in.device != model::Device::cuda) return;
  need.weight_bytes = model::Model::device_bytes(in.header.description);
  decode::check_memory(command, in.header.description, need, decode::device_info().free_bytes);
}

void check_bandwidth_memory(const std::string& command, const Inputs& in) {
  if (in.device != model::Device::cuda) return;
  const decode::StepMemory need{model::Model::device_bytes(in.header.description), 0,
                                decode::bandwidth_bytes};
  const size_t free = decode::device_info().free_bytes;
  if (need.total() > free)
    throw bad_input(
        "{} needs {:.1f} GB of device memory (weights {:.1f}, arrays that its bandwidth is measured with "
        "{:.1f}), "
        "{:.1f} GB are free: use a smaller model",
        command, 1e-9 * double(need.total()), 1e-9 * double(need.weights), 1e-9 * double(need.buffers),
        1e-9 * double(free));
}

void print_device_memory(const std::string& what, const Inputs& in, const decode::StepMemory& most) {
  if (in.device != model::Device::cuda) return;
  fmt::print("device memory{} about {:.1f} GB (weights {:.2f}, KV cache {:.2f}), {:.1f} GB are free\n", what,
             1e-9 * double(most.total()), 1e-9 * double(most.weights), 1e-9 * double(most.cache),
             1e-9 * double(decode::device_info().free_bytes));
}

void print_device_memory(const std::string& what, const Inputs& in, decode::PrefillNeed need) {
  need.weight_bytes = model::Model::device_bytes(in.header.description);
  print_device_memory(what, in, decode::prefill_memory(in.header.description, need));
}

}  // namespace deltacal::tools
