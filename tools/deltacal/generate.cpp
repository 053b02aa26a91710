#include "decode/generate.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "config/config.h"
#include "core/error.h"
#include "decode/device_info.h"
#include "gpu_trace_output.h"
#include "inputs.h"
#include "text/utf8_stream.h"

namespace deltacal::tools {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

decode::Policy policy_of(const GenerateOptions& o, const ModelInfo& info) {
  if (o.config.empty()) return decode::full_policy(info.n_layers);
  const config::Config config = config::read(o.config);
  const std::string warning = config::check_model(config, o.config, info);
  if (!warning.empty()) fmt::print(stderr, "warning: {}\n", warning);
  return decode::delta_policy(config.schedule);
}

}  // namespace

int generate(const GenerateOptions& o) {
  const decode::GenerateOptions decode_options_checked{
      o.max_new_tokens, {o.temperature, o.top_k, o.top_p, o.made.seed}, {}};
  decode::check(decode_options_checked.sampling);
  const model::Model model = load_model(o);
  const text::Tokenizer& tokenizer = model.tokenizer();
  const decode::Policy policy = policy_of(o, model.info());

  const text::ChatPreset preset = text::choose_preset(o.chat, tokenizer.vocabulary());
  std::vector<text::Message> messages;
  if (!o.system.empty()) messages.push_back({"system", o.system});
  messages.push_back({"user", o.prompt});
  const std::vector<int32_t> prompt = text::render_prompt(tokenizer, preset, messages);
  const int n_prompt = static_cast<int>(prompt.size());
  if (o.max_new_tokens > model.info().max_context - n_prompt)
    throw bad_input(
        "a prompt of {} tokens and {} new ones exceed the model's context of {}: lower --max-new-tokens",
        n_prompt, o.max_new_tokens, model.info().max_context);

  if (model.device() == model::Device::cuda)
    decode::check_memory("generate", model.description(), {.n_positions = n_prompt + o.max_new_tokens},
                         decode::device_info().free_bytes);
  decode::KvCache cache(model, 1, n_prompt + o.max_new_tokens);
  GpuTraceOutput trace(o.gpu_trace, model);
  decode::Decoder decoder(model, cache, policy, {}, trace.session());
  decode::GenerateOptions options = decode_options_checked;
  options.stops = [&](int32_t id) { return tokenizer.ends_generation(id); };

  text::Utf8Stream stream;
  const auto start = std::chrono::steady_clock::now();
  double prefill_seconds = 0;
  decode::GenerateCallbacks callbacks;
  callbacks.token = [&](int32_t id, const decode::Logits&) {
    if (prefill_seconds == 0) prefill_seconds = seconds_since(start);
    if (tokenizer.is_special(id)) return;
    const std::string text = stream.feed(tokenizer.bytes_of(id));
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  };
  const auto generated = decode::generate(decoder, prompt, options, callbacks);
  const std::string rest = stream.finish();
  std::fwrite(rest.data(), 1, rest.size(), stdout);
  std::fputc('\n', stdout);
  if (std::fflush(stdout) != 0) throw failure("cannot write to standard output");

  const double seconds = seconds_since(start);
  trace.finish();
  if (o.stats) {
    const double decode_seconds = seconds - prefill_seconds;
    long long attended = 0, all = 0, lists = 0;
    for (const auto& layer : decoder.reads()) attended += layer.attended, lists += layer.lists;
    for (int t = n_prompt; t < n_prompt + static_cast<int>(generated.size()); ++t)
      all += (long long)(t + 1) * model.info().n_layers;
    fmt::print(stderr,
               "prompt {} tokens in {:.2f} s ({:.1f} tokens/s); {} new tokens in {:.2f} s ({:.1f} tokens/s)\n"
               "attended {:.1f} of {:.1f} pages a layer and step, attended-token ratio {:.2f}\n",
               n_prompt, prefill_seconds, n_prompt / prefill_seconds, generated.size(), decode_seconds,
               generated.size() / decode_seconds,
               double(attended) / page_size / model.info().n_layers / double(generated.size()),
               double(all) / page_size / model.info().n_layers / double(generated.size()),
               double(all) / double(attended));
    const auto n_deltas =
        std::ranges::count(policy.layers, decode::Attend::all_rank, &decode::LayerPolicy::attend);
    if (policy.keeps_lists() && n_deltas > 0)
      fmt::print(stderr, "a Δ-layer made {:.1f} lists in {} steps\n", double(lists) / double(n_deltas),
                 generated.size());
  }
  return 0;
}

}  // namespace deltacal::tools
