// Rates of the whole decoder, each as a ratio to something measured in the same run: the memory's read
// bandwidth, or the plain prefill.
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "bench_common.h"
#include "bench_cost.h"
#include "bench_device.h"
#include "bench_memory.h"
#include "bench_timing.h"
#include "config/config.h"
#include "core/error.h"
#include "decode/decoder.h"
#include "device_tables.h"
#include "gpu_trace_output.h"
#include "inputs.h"
#include "outputs.h"

namespace deltacal::tools {
namespace {

using Json = nlohmann::ordered_json;

struct DecodeFigures {
  std::string policy;
  int context = 0;
  Timing step;           // seconds a token
  double gigabytes = 0;  // read by one step: weights, and keys and values attended
};

// Bytes a step reads, the mean of the decoder's `n_steps` so far: every weight once; keys and values of the
// positions attended, the keys again where they are scored for a list.
double bytes_of_step(const model::Model& model, const decode::Decoder& decoder, long long n_steps) {
  const double per_layer_position =
      double(decode::KvCache::bytes_per_position(model.info(), model.dtype())) / model.info().n_layers;
  double positions = 0;
  for (const auto& layer : decoder.reads())
    positions += (double(layer.attended) + 0.5 * double(layer.ranked)) / double(n_steps);
  // Of the embedding one row is read, unless it is the output layer too.
  const model::Description& d = model.description();
  const double unread = d.tied_output ? 0 : 4.0 * d.n_vocab * d.n_embd;
  return double(model.weight_bytes()) - unread + positions * per_layer_position;
}

DecodeFigures bench_decode(const BenchOptions& o, const model::Model& model, decode::KvCache& cache,
                           const std::string& name, const decode::Policy& policy, int context) {
  decode::Decoder decoder(model, cache, policy);
  const int32_t sequence[] = {0}, prefilled_to[] = {0}, token[] = {1};
  long long n_steps = 0;  // the warm-up's too
  const Timing steps = time_of(o.repeats, [&] {
    for (int i = 0; i < o.decode_steps; ++i, ++n_steps) {
      const int32_t position[] = {context - o.decode_steps + i};
      decoder.forward({token, position, sequence, prefilled_to});
      decoder.logits(0, 1);
    }
  });
  const double n = o.decode_steps;
  return {name,
          context,
          {steps.median / n, steps.low / n, steps.high / n},
          1e-9 * bytes_of_step(model, decoder, n_steps)};
}

// What the cost table is measured at, checked and in order.
void settle_grid(BenchOptions& o, const model::Description& d, model::Device device) {
  const int most = d.info.max_context, usual = device == model::Device::cuda ? 32768 : 8192;
  if (o.contexts.empty()) {
    for (const int context : {1, 64, 256, 1024, 2048, 4096, 8192, 16384, 32768})
      if (context <= std::min(most, usual)) o.contexts.push_back(context);
    if (o.contexts.back() < std::min(most, usual)) o.contexts.push_back(most);
  }
  for (std::vector<int>* values : {&o.contexts, &o.k_pages}) {
    std::sort(values->begin(), values->end());
    values->erase(std::unique(values->begin(), values->end()), values->end());
  }
  if (o.contexts.front() < 1 || o.contexts.back() > most)
    throw bad_input("--contexts {}: at least 1, at most the model's context of {}",
                    fmt::join(o.contexts, ","), most);
  if (o.k_pages.empty() || o.k_pages.front() < 1)
    throw bad_input("--k-pages {}: at least 1 page", fmt::join(o.k_pages, ","));
}

void check_contexts(const BenchOptions& o, const ModelInfo& info) {
  if (o.prefill_tokens > info.max_context)
    throw bad_input("--prefill-tokens {}: the model's context is {}", o.prefill_tokens, info.max_context);
  for (const int context : o.contexts)
    if (context > info.max_context || context < o.decode_steps)
      throw bad_input("--contexts {}: at least --decode-steps {}, at most the model's context of {}", context,
                      o.decode_steps, info.max_context);
}

// Random weights that do not fit are refused before they are made: a CPU without memory swaps for hours.
void check_host_memory(const model::Description& d, model::Dtype dtype) {
  const double needed = double(model::Model::random_bytes(d, dtype, model::Device::cpu)),
               there = double(::sysconf(_SC_PHYS_PAGES)) * double(::sysconf(_SC_PAGESIZE));
  if (needed > 0.8 * there)
    throw bad_input(
        "random weights of {} take {:.1f} GB, the machine has {:.1f}: use --device cuda where one is, or "
        "another shape",
        d.info.name, 1e-9 * needed, 1e-9 * there);
}

int bench_on_cpu(const BenchOptions& o, const Inputs& in, const std::optional<config::Config>& config) {
  if (!o.shape.empty()) check_host_memory(in.header.description, in.dtype);
  const model::Model model = o.shape.empty() ? load_model(o, in) : random_model(in, o.made.seed);
  if (!o.cost_table.empty())
    return write_cost_table(
        o, measure_costs(model, tokens_for(o, model, o.contexts.back()), o.contexts, o.k_pages, o.repeats));
  const MemoryBandwidth memory = measure_memory(o.repeats);
  const PrefillFigures prefill = bench_prefill(o, model, tokens_for(o, model, o.prefill_tokens), o.repeats);

  const int longest = o.contexts.empty() ? 0 : *std::max_element(o.contexts.begin(), o.contexts.end());
  std::vector<DecodeFigures> decodes;
  if (longest > 0) {
    decode::KvCache cache(model, 1, longest);
    decode::Decoder fill(model, cache, decode::full_policy(model.info().n_layers));
    decode::replay(fill, tokens_for(o, model, longest), 0, [](int, int) {});
    for (const int context : o.contexts) {
      decodes.push_back(
          bench_decode(o, model, cache, "full", decode::full_policy(model.info().n_layers), context));
      if (config)
        decodes.push_back(
            bench_decode(o, model, cache, "config", decode::delta_policy(config->schedule), context));
    }
  }

  Json json = bench_head(o, model);
  json["threads"] = model::n_threads();
  json["memory"] = {{"read_gb_s", memory.read}, {"copy_gb_s", memory.copy}};
  json["prefill"] = to_json(prefill, o.prefill_tokens);
  Printed page;
  page.print("{} in {}, {} threads; medians of {} after a warm-up (fastest to slowest)\n\n",
             model.info().name, model.info().dtype, model::n_threads(), o.repeats);
  page.print("| what | figure | ratio |\n|---|---|---|\n");
  page.print("| memory, read | {:.1f} GB/s | |\n| memory, copy | {:.1f} GB/s | |\n", memory.read,
             memory.copy);
  print(prefill, o.prefill_tokens, page);
  json["decode"] = Json::array();
  double full_step = 0;
  for (const auto& d : decodes) {
    if (d.policy == "full") full_step = d.step.median;
    const double achieved = d.gigabytes / d.step.median;
    json["decode"].push_back({{"policy", d.policy},
                              {"context", d.context},
                              {"step", to_json(d.step)},
                              {"read_gb", d.gigabytes},
                              {"share_of_read_bandwidth", achieved / memory.read},
                              {"speedup_over_full", full_step / d.step.median}});
    page.print(
        "| decode, {}, context {} | {:.1f} tokens/s ({:.1f} to {:.1f} ms) | {:.0f}% of read bandwidth{} |\n",
        d.policy, d.context, 1 / d.step.median, 1e3 * d.step.low, 1e3 * d.step.high,
        100 * achieved / memory.read,
        d.policy == "full" ? "" : fmt::format(", {:.2f} times full", full_step / d.step.median));
  }
  write_bench(o, json, page);
  return 0;
}

}  // namespace

int bench(const BenchOptions& given) {
  BenchOptions o = given;
  require_free_outputs({o.out, o.csv, o.markdown, o.cost_table, o.gpu_trace}, o.existing());
  std::optional<config::Config> config;
  if (!o.config.empty()) config = config::read(o.config);
  const Inputs in = o.shape.empty() ? read_head(o) : read_head_of_shape(o, o.shape);
  const model::Description& d = in.header.description;
  const bool on_device = in.device == model::Device::cuda;
  if (on_device && !o.of_cpu.empty())
    throw bad_input("{} is for the CPU: on a CUDA device give --batch ROWSxCONTEXT, or --device cpu",
                    o.of_cpu[0]);
  if (!on_device && !o.of_device.empty())
    throw bad_input("{} needs a CUDA device (the CPU decodes one sequence at a time, at --contexts)",
                    o.of_device[0]);
  check_gpu_trace(o.gpu_trace, in.device);
  o.counters = settle_counters(o.counters, in.device);
  if (o.repeats == 0) o.repeats = on_device ? 20 : 3;
  if (config) {
    const std::string warning = config::check_model(*config, o.config, d.info);
    if (!warning.empty()) fmt::print(stderr, "warning: {}\n", warning);
  }
  if (on_device) o.contexts = o.cost_table.empty() ? std::vector<int>{} : o.contexts;
  if (!o.cost_table.empty())
    settle_grid(o, d, in.device);
  else
    check_contexts(o, d.info);
  if (on_device) return bench_on_device(o, in, config, parse_batches(o.batches, d.info.max_context));
  return bench_on_cpu(o, in, config);
}

}  // namespace deltacal::tools
