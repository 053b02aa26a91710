// Rates of the whole decoder, each as a ratio to something measured in the same run: the memory's read
// bandwidth, or the plain prefill.
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "bench_cost.h"
#include "bench_memory.h"
#include "bench_timing.h"
#include "config/config.h"
#include "core/error.h"
#include "decode/decoder.h"
#include "inputs.h"
#include "record/record.h"

namespace deltacal::tools {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const Timing& t) {
  return {{"median_s", t.median}, {"min_s", t.low}, {"max_s", t.high}};
}

// Tokens of the first sample that is long enough, or random ones.
std::vector<int32_t> tokens_for(const BenchOptions& o, const model::Model& model, int n) {
  if (o.data.empty()) {
    std::mt19937_64 random(o.made.seed);
    std::vector<int32_t> ids(n);
    for (auto& id : ids) id = static_cast<int32_t>(random() % model.description().n_vocab);
    return ids;
  }
  const auto samples = text::read_jsonl(o.data);
  const auto data = text::tokenize(samples, o.data, &model.tokenizer(), text::ChatPreset::none,
                                   {n, n, model.info().max_context, model.description().n_vocab, 1});
  if (data.samples.empty()) throw bad_input("{}: no sample has {} tokens", o.data, n);
  return data.samples[0].ids;
}

struct PrefillFigures {
  Timing plain, recorded;
};

// Plain: all layers and the logits of every position. Recorded: the same with 256 steps written to a trace.
PrefillFigures bench_prefill(const BenchOptions& o, const model::Model& model,
                             const std::vector<int32_t>& ids) {
  PrefillFigures out;
  out.plain = time_of(o.repeats, [&] {
    decode::KvCache cache(model, 1, static_cast<int>(ids.size()));
    decode::Decoder decoder(model, cache, decode::full_policy(model.info().n_layers));
    decode::replay(decoder, ids, 0, [&](int, int n) { decoder.logits(0, n); });
  });
  const text::TokenizedSample sample{"bench", "", "bench", "", ids, 0, ""};
  const auto folder = std::filesystem::temp_directory_path() / fmt::format("deltacal-bench-{}", ::getpid());
  std::filesystem::create_directory(folder);
  const std::string path = (folder / "trace.h5").string();
  out.recorded = time_of(o.repeats, [&] {
    trace::Writer writer(path, trace::Writer::Start::replace, model.info(), o.made, {});
    record::record_replay(model, sample, {}, writer, 0, nullptr);
    writer.finish();
  });
  std::filesystem::remove_all(folder);
  return out;
}

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

// The table that `calibrate --cost` reads, and the same for people.
int bench_cost_table(const BenchOptions& o, const model::Model& model) {
  const int most = model.info().max_context;
  std::vector<int> contexts = o.contexts;
  if (contexts.empty()) {
    for (const int context : {1, 64, 256, 1024, 2048, 4096, 8192})
      if (context <= most) contexts.push_back(context);
    if (contexts.back() < std::min(most, 8192)) contexts.push_back(most);
  }
  std::vector<int> k_pages = o.k_pages;
  for (std::vector<int>* values : {&contexts, &k_pages}) {
    std::sort(values->begin(), values->end());
    values->erase(std::unique(values->begin(), values->end()), values->end());
  }
  if (contexts.front() < 1 || contexts.back() > most)
    throw bad_input("--contexts {}: at least 1, at most the model's context of {}", fmt::join(contexts, ","),
                    most);
  if (k_pages.empty() || k_pages.front() < 1)
    throw bad_input("--k-pages {}: at least 1 page", fmt::join(k_pages, ","));
  const calib::CostTable table =
      measure_costs(model, tokens_for(o, model, contexts.back()), contexts, k_pages, o.repeats);
  calib::write_cost_table(table, o.cost_table, o.existing(), o.made);
  fmt::print("{}; medians of {}, in microseconds: one layer's attention, and the rest of the step\n\n",
             table.device, o.repeats);
  fmt::print("| context | full | delta | sparse {} pages | other |\n|---|---|---|---|---|\n",
             fmt::join(k_pages, ", "));
  for (size_t c = 0; c < contexts.size(); ++c) {
    std::vector<std::string> sparse;
    for (const double ms : table.sparse_ms[c]) sparse.push_back(fmt::format("{:.0f}", 1e3 * ms));
    fmt::print("| {} | {:.0f} | {:.0f} | {} | {:.0f} |\n", contexts[c], 1e3 * table.full_ms[c],
               1e3 * table.delta_ms[c], fmt::join(sparse, ", "), 1e3 * table.other_ms[c]);
  }
  fmt::print("\ncost table {}\n", o.cost_table);
  return 0;
}

}  // namespace

namespace {

// Its kernels and its yardstick are the CPU's.
BenchOptions on_cpu(BenchOptions o) {
  if (o.device == "cuda") throw bad_input("bench: --device cuda: only the CPU is measured; use --device cpu");
  o.device = "cpu";
  return o;
}

}  // namespace

int bench(const BenchOptions& o) {
  for (const std::string& path : {o.out, o.cost_table})
    if (!path.empty()) require_free_output(path, o.existing());
  std::optional<config::Config> config;
  if (!o.config.empty()) config = config::read(o.config);
  const model::Model model = load_model(on_cpu(o));
  if (config) {
    const std::string warning = config::check_model(*config, o.config, model.info());
    if (!warning.empty()) fmt::print(stderr, "warning: {}\n", warning);
  }
  if (!o.cost_table.empty()) return bench_cost_table(o, model);
  if (o.prefill_tokens > model.info().max_context)
    throw bad_input("--prefill-tokens {}: the model's context is {}", o.prefill_tokens,
                    model.info().max_context);
  for (const int context : o.contexts)
    if (context > model.info().max_context || context < o.decode_steps)
      throw bad_input("--contexts {}: at least --decode-steps {}, at most the model's context of {}", context,
                      o.decode_steps, model.info().max_context);

  const MemoryBandwidth memory = measure_memory(o.repeats);
  const PrefillFigures prefill = bench_prefill(o, model, tokens_for(o, model, o.prefill_tokens));

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

  Json json = artefact_head("deltacal-bench", 1, o.made);
  json["model"] = {
      {"name", model.info().name}, {"sha256", model.info().sha256}, {"dtype", model.info().dtype}};
  json["threads"] = model::n_threads();
  json["memory"] = {{"read_gb_s", memory.read}, {"copy_gb_s", memory.copy}};
  json["prefill"] = {{"tokens", o.prefill_tokens},
                     {"plain", to_json(prefill.plain)},
                     {"recorded", to_json(prefill.recorded)},
                     {"recorded_over_plain", prefill.recorded.median / prefill.plain.median}};
  fmt::print("{} in {}, {} threads; medians of {} after a warm-up (fastest to slowest)\n\n",
             model.info().name, model.info().dtype, model::n_threads(), o.repeats);
  fmt::print("| what | figure | ratio |\n|---|---|---|\n");
  fmt::print("| memory, read | {:.1f} GB/s | |\n| memory, copy | {:.1f} GB/s | |\n", memory.read,
             memory.copy);
  const auto rate = [&](const Timing& t) {
    return fmt::format("{:.0f} tokens/s ({:.2f} to {:.2f} s)", o.prefill_tokens / t.median, t.low, t.high);
  };
  fmt::print("| prefill of {} tokens | {} | |\n", o.prefill_tokens, rate(prefill.plain));
  fmt::print("| the same, 256 steps recorded to a trace | {} | {:.2f} times the plain prefill's time |\n",
             rate(prefill.recorded), prefill.recorded.median / prefill.plain.median);
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
    fmt::print(
        "| decode, {}, context {} | {:.1f} tokens/s ({:.1f} to {:.1f} ms) | {:.0f}% of read bandwidth{} |\n",
        d.policy, d.context, 1 / d.step.median, 1e3 * d.step.low, 1e3 * d.step.high,
        100 * achieved / memory.read,
        d.policy == "full" ? "" : fmt::format(", {:.2f} times full", full_step / d.step.median));
  }
  if (!o.out.empty()) write_file_atomically(o.out, json.dump(1) + "\n", o.existing());
  return 0;
}

}  // namespace deltacal::tools
