#include "bench_device.h"

#include <algorithm>
#include <cstdio>
#include <exception>

#include "bench_common.h"
#include "bench_watched.h"
#include "core/error.h"
#include "decode/decoder.h"
#include "decode/device_info.h"
#include "decode/step_graph.h"
#include "decode/step_memory.h"
#include "kernels/cuda/paged.h"

namespace deltacal::tools {
namespace {

using Json = nlohmann::ordered_json;
using decode::Attend;
using decode::StepGraph;

// Roles that the DELTA paper's program is run with, for shapes of which no config is given.
decode::Policy example_policy(int n_layers) {
  decode::Policy policy = decode::full_policy(n_layers);
  policy.position_bias = 1e-7;
  for (int layer = 2; layer < n_layers; ++layer)
    policy.layers[layer] = layer == 2 || layer == 14 || layer == 22
                               ? decode::LayerPolicy{Attend::all_rank, 64, 8}
                               : decode::LayerPolicy{Attend::list, 64, 0};
  return policy;
}
constexpr const char* example_name = "full 0-1, delta 2, 14, 22, K 64, L 8";

std::vector<NamedPolicy> policies_of(const BenchOptions& o, const std::optional<config::Config>& config,
                                     int n_layers) {
  std::vector<NamedPolicy> policies{{"full", decode::full_policy(n_layers)}};
  if (config)
    policies.push_back({"config", decode::delta_policy(config->schedule)});
  else if (!o.shape.empty() && n_layers > 22)
    policies.push_back({example_name, example_policy(n_layers)});
  for (const auto& p : policies) decode::check_for_capture(p.policy, n_layers);
  return policies;
}

// Pages and L of the lists that its Δ-layers make, where a layer is timed by itself.
decode::LayerPolicy first_delta(const decode::Policy& policy) {
  for (const auto& layer : policy.layers)
    if (layer.attend == Attend::all_rank) return layer;
  return {};
}

// Seconds of n steps that follow one another, uploads included, by the host's clock; of one in `every` page
// maps are recorded and brought to the host (0: of none).
double wall_of(StepGraph& graph, int context, int n, int every) {
  run(graph, context);
  graph.wait();
  bool waiting = false;  // maps are: they are taken while the next step runs
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < n; ++i) {
    const bool recorded = every > 0 && i % every == 0;
    run(graph, context, recorded);
    if (waiting) graph.take_maps();
    waiting = recorded;
  }
  graph.wait();
  if (waiting) graph.take_maps();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}
// Seconds a step.
double wall_of(StepGraph& graph, int context, int repeats) {
  const int n = std::max(repeats, 20);
  return wall_of(graph, context, n, 0) / n;
}

Timing scaled(Timing t, double factor) {
  return {t.median * factor, t.low * factor, t.high * factor};
}

// What the figures of one batch are made from.
class Bench {
 public:
  Bench(const BenchOptions& o, const model::Model& model, double read_gb_s, Printed& page)
      : o_(o), model_(model), read_gb_s_(read_gb_s), page_(page) {}

  void batch(const Batch& batch, const std::vector<NamedPolicy>& policies) {
    decode::KvCache cache(model_, batch.rows, batch.context);
    cache.fill_random(o_.made.seed);
    for (const auto& p : policies) step(batch, cache, p);
    recording(batch, cache);
    layers(batch, cache, first_delta(policies.back().policy));
  }
  const Json& steps() const { return steps_; }
  const Json& of_layers() const { return layers_; }
  const Json& recordings() const { return recordings_; }

 private:
  int n_layers() const { return model_.info().n_layers; }

  void step(const Batch& batch, decode::KvCache& cache, const NamedPolicy& p) {
    StepGraph graph(model_, cache, p.policy, batch.rows);
    const Timing time = time_of(graph, batch.context, o_.repeats);
    const double wall = wall_of(graph, batch.context, o_.repeats),
                 gigabytes = 1e-9 * (weight_bytes() + kv_bytes(batch, p.policy)),
                 floor = gigabytes / read_gb_s_;
    const bool full = p.name == "full";
    if (full) full_step_ = time.median;
    steps_.push_back({{"policy", p.name},
                      {"rows", batch.rows},
                      {"context", batch.context},
                      {"step", to_json(time)},
                      {"wall_s", wall},
                      {"read_gb", gigabytes},
                      {"floor_s", floor},
                      {"share_of_read_bandwidth", floor / time.median},
                      {"over_floor", time.median / floor},
                      {"speedup_over_full", full_step_ / time.median}});
    page_.print(
        "| decode step, {}, {} | {:.3f} ms ({:.3f} to {:.3f}), wall {:.3f} | {:.2f} times the "
        "floor "
        "of {:.3f} ms{} |\n",
        p.name, in_words(batch), 1e3 * time.median, 1e3 * time.low, 1e3 * time.high, 1e3 * wall,
        time.median / floor, 1e3 * floor,
        full ? "" : fmt::format(", {:.2f} times as fast as full", full_step_ / time.median));
  }

  // Steps of which every 16th is recorded against plain ones, by turns.
  void recording(const Batch& batch, decode::KvCache& cache) {
    constexpr int every = 16;
    StepGraph graph(model_, cache, decode::full_policy(n_layers()), batch.rows, StepGraph::Part::step,
                    nullptr, StepGraph::Maps::layers);
    std::vector<double> plain, recorded;
    for (int i = 0; i < o_.repeats; ++i) {
      plain.push_back(wall_of(graph, batch.context, every, 0) / every);
      recorded.push_back(wall_of(graph, batch.context, every, every) / every);
    }
    const Timing of_plain = timing_of(std::move(plain)), of_recorded = timing_of(std::move(recorded));
    recordings_.push_back({{"rows", batch.rows},
                           {"context", batch.context},
                           {"every", every},
                           {"plain_step", to_json(of_plain)},
                           {"step", to_json(of_recorded)},
                           {"over_plain", of_recorded.median / of_plain.median}});
    page_.print(
        "| decode step, full, {}, every {}th step recorded | {:.3f} ms ({:.3f} to {:.3f}) | {:.3f} times the "
        "plain step of {:.3f} ms |\n",
        in_words(batch), every, 1e3 * of_recorded.median, 1e3 * of_recorded.low, 1e3 * of_recorded.high,
        of_recorded.median / of_plain.median, 1e3 * of_plain.median);
  }

  // All layers' attention in one graph, each with keys and values of its own, which the caches do not hold.
  void layers(const Batch& batch, decode::KvCache& cache, const decode::LayerPolicy& delta) {
    const auto all = [&](const decode::Policy& policy) {
      StepGraph graph(model_, cache, policy, batch.rows, StepGraph::Part::attention);
      return time_of(graph, batch.context, o_.repeats);
    };
    const decode::LayerPolicy sparse{Attend::list, delta.k_pages, 0};
    const Timing full = scaled(all(decode::full_policy(n_layers())), 1.0 / n_layers());
    layer("attention of a full layer", batch, {}, full, full);
    if (delta.k_pages == 0) return;
    const Timing ranks = scaled(all(all_layers(n_layers(), delta)), 1.0 / n_layers());
    layer("attention, scores and selection of a delta layer", batch, {Attend::all, 0, 0}, ranks, full);
    if (n_layers() < 2) return;
    const Timing mixed = all(one_delta(n_layers(), delta));
    const auto rest = [&](double whole) { return (whole - ranks.median) / (n_layers() - 1); };
    layer(fmt::format("attention of a sparse layer, {} pages", delta.k_pages), batch, sparse,
          {rest(mixed.median), rest(mixed.low), rest(mixed.high)}, full);
  }

  void layer(const std::string& what, const Batch& batch, const decode::LayerPolicy& policy,
             const Timing& time, const Timing& full) {
    const double gigabytes = 1e-9 * layer_bytes(batch, policy), share = gigabytes / read_gb_s_ / time.median;
    layers_.push_back({{"what", what},
                       {"rows", batch.rows},
                       {"context", batch.context},
                       {"call", to_json(time)},
                       {"read_gb", gigabytes},
                       {"share_of_read_bandwidth", share},
                       {"over_full_attention", time.median / full.median}});
    page_.print(
        "| {}, {} | {:.1f} us ({:.1f} to {:.1f}) | {:.1f}% of read bandwidth, {:.3f} times full "
        "|\n",
        what, in_words(batch), 1e6 * time.median, 1e6 * time.low, 1e6 * time.high, 100 * share,
        time.median / full.median);
  }

  // Of matrices and biases; of the embedding a step reads a row a sequence.
  double weight_bytes() const {
    const model::Description& d = model_.description();
    return double(model::Model::device_bytes(d)) - 4.0 * d.n_vocab * d.n_embd;
  }
  // Keys and values of one layer.
  double layer_bytes(const Batch& batch, const decode::LayerPolicy& policy) const {
    const int t = batch.context - 1, k = policy.k_pages;
    const bool sparse = policy.attend == Attend::list && k < pages_seen(t);
    const double positions = sparse ? (k - 1.0) * page_size + t % page_size + 1 : t + 1.0;
    return batch.rows * positions *
           double(decode::KvCache::bytes_per_position(model_.info(), model::Dtype::bf16)) / n_layers();
  }
  double kv_bytes(const Batch& batch, const decode::Policy& policy) const {
    double bytes = 0;
    for (const auto& of_layer : policy.layers) bytes += layer_bytes(batch, of_layer);
    return bytes;
  }

  const BenchOptions& o_;
  const model::Model& model_;
  double read_gb_s_;
  Printed& page_;
  double full_step_ = 0;
  Json steps_ = Json::array(), layers_ = Json::array(), recordings_ = Json::array();
};

model::Model made_or_loaded(const BenchOptions& o, const Inputs& in) {
  return o.shape.empty() ? load_model(o, in) : random_model(in, o.made.seed);
}

int bench_cost_table(const BenchOptions& o, const Inputs& in) {
  const auto& d = in.header.description;
  decode::check_memory(fmt::format("--rows {} --contexts {}", o.rows, o.contexts.back()), d,
                       model::Model::device_bytes(d), o.rows, o.contexts.back(),
                       decode::device_info().free_bytes);
  const model::Model model = made_or_loaded(o, in);
  return write_cost_table(o, measure_costs_on_device(model, o.rows, o.contexts, o.k_pages, o.repeats));
}

}  // namespace

std::vector<Batch> parse_batches(const std::vector<std::string>& texts, int max_context) {
  std::vector<Batch> batches;
  for (const std::string& text : texts) {
    Batch batch;
    int end = 0;
    if (std::sscanf(text.c_str(), "%9dx%9d%n", &batch.rows, &batch.context, &end) != 2 ||
        end != static_cast<int>(text.size()) || batch.rows < 1 || batch.context < 1)
      throw bad_input("--batch {}: give ROWSxCONTEXT, such as 32x32768", text);
    if (batch.context > max_context)
      throw bad_input("--batch {}: the model's context is {}", text, max_context);
    batches.push_back(batch);
  }
  if (!batches.empty()) return batches;
  for (const Batch& usual : {Batch{32, 32768}, {8, 8192}, {1, 32768}})
    batches.push_back({usual.rows, std::min(usual.context, max_context)});
  return batches;
}

int bench_on_device(const BenchOptions& o, const Inputs& in, const std::optional<config::Config>& config,
                    const std::vector<Batch>& batches) {
  const ModelInfo& info = in.header.description.info;
  if (!kernels::cuda::has_head_dim(info.head_dim))
    throw bad_input("--device cuda: {}: head dimension {} has no kernel (64, 96, 128 and 256 have)",
                    info.name, info.head_dim);
  if (!o.cost_table.empty()) return bench_cost_table(o, in);
  const model::Description& d = in.header.description;
  const auto policies = policies_of(o, config, d.info.n_layers);
  const decode::DeviceInfo device = decode::device_info();
  check_bandwidth_memory("bench", in);
  for (const Batch& b : batches)
    decode::check_memory(fmt::format("--batch {}x{}", b.rows, b.context), d, model::Model::device_bytes(d),
                         b.rows, b.context, device.free_bytes, {.records = true});
  decode::PrefillNeed prefill_need = need_of_prefill(o, d);
  prefill_need.weight_bytes = model::Model::device_bytes(d);
  decode::check_memory(
      fmt::format("--prefill-tokens {}{}", o.prefill_tokens, o.sensitivity ? " --sensitivity" : ""), d,
      prefill_need, device.free_bytes);
  const model::Model model = made_or_loaded(o, in);

  const decode::DeviceBandwidth bandwidth = decode::measure_bandwidth(o.repeats);
  const Timing read = timing_of(bandwidth.read), copy = timing_of(bandwidth.copy);  // GB/s
  Printed page;
  page.print(
      "{}; {} in {}{}; medians of {} after a warm-up (fastest to slowest). A step is one CUDA graph, timed "
      "on the "
      "device; its floor is the weights, keys and values that it reads at the read bandwidth\n\n",
      device.name, model.info().name, model.info().dtype, o.shape.empty() ? "" : ", random weights",
      o.repeats);
  page.print("| what | figure | ratio |\n|---|---|---|\n");
  page.print("| memory, read | {:.0f} GB/s ({:.0f} to {:.0f}) | |\n", read.median, read.low, read.high);
  page.print("| memory, copy | {:.0f} GB/s ({:.0f} to {:.0f}) | |\n", copy.median, copy.low, copy.high);

  Bench bench(o, model, read.median, page);
  for (const Batch& b : batches) bench.batch(b, policies);
  const PrefillFigures prefill =
      bench_prefill(o, model, tokens_for(o, model, o.prefill_tokens), std::min(o.repeats, 5));
  print(prefill, o.prefill_tokens, page);

  Json json = bench_head(o, model);
  json["memory"] = {{"read_gb_s", read.median}, {"copy_gb_s", copy.median}};
  json["prefill"] = to_json(prefill, o.prefill_tokens);
  json["decode"] = bench.steps();
  json["layers"] = bench.of_layers();
  json["recording"] = bench.recordings();
  // It may fail where all that was timed did not: thrown when that is written.
  std::exception_ptr failed;
  try {
    Watched watched(o, model, read.median, page);
    if (Json phases = watched.trace(batches, policies); !phases.empty()) json["phases"] = std::move(phases);
    if (Json counted = watched.count(batches, policies); !counted.empty())
      json["counters"] = std::move(counted);
  } catch (...) {
    failed = std::current_exception();
  }
  write_bench(o, json, page);
  if (failed) std::rethrow_exception(failed);
  return 0;
}

}  // namespace deltacal::tools
