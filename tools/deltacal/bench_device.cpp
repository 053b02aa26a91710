#include "bench_device.h"

#include <algorithm>
#include <cstdio>

#include "bench_common.h"
#include "bench_timing.h"
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

struct NamedPolicy {
  std::string name;
  decode::Policy policy;
};

// Of issue 5's figures: what the DELTA authors' program is run with.
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

decode::Policy all_layers(int n_layers, const decode::LayerPolicy& layer) {
  decode::Policy policy = decode::full_policy(n_layers);
  policy.position_bias = 1e-7;
  std::fill(policy.layers.begin(), policy.layers.end(), layer);
  return policy;
}
decode::Policy one_delta(int n_layers, const decode::LayerPolicy& delta) {
  decode::Policy policy = all_layers(n_layers, {Attend::list, delta.k_pages, 0});
  policy.layers[0] = delta;
  return policy;
}

// Each row at the last position of its context.
void run(StepGraph& graph, int context) {
  const std::vector<int32_t> token(graph.n_rows(), 1), position(graph.n_rows(), context - 1);
  graph.run(token, position);
}

// Device time of the graph's launches.
Timing time_of(StepGraph& graph, int context, int repeats) {
  run(graph, context);
  for (int i = 0; i < 3; ++i) graph.launch();
  graph.wait();
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) seconds.push_back(graph.timed_launch());
  return timing_of(std::move(seconds));
}

// Seconds a step of steps that follow one another, uploads included, by the host's clock.
double wall_of(StepGraph& graph, int context, int repeats) {
  run(graph, context);
  graph.wait();
  const int n = std::max(repeats, 20);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < n; ++i) run(graph, context);
  graph.wait();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / n;
}

std::string in_words(const Batch& batch) {
  return fmt::format("{} row{} of {}", batch.rows, batch.rows == 1 ? "" : "s", batch.context);
}

Timing scaled(Timing t, double factor) {
  return {t.median * factor, t.low * factor, t.high * factor};
}

// What the figures of one batch are made from.
class Bench {
 public:
  Bench(const BenchOptions& o, const model::Model& model, double read_gb_s)
      : o_(o), model_(model), read_gb_s_(read_gb_s) {}

  void batch(const Batch& batch, const std::vector<NamedPolicy>& policies) {
    decode::KvCache cache(model_, batch.rows, batch.context);
    cache.fill_random(o_.made.seed);
    for (const auto& p : policies) step(batch, cache, p);
    layers(batch, cache, first_delta(policies.back().policy));
  }
  const Json& steps() const { return steps_; }
  const Json& of_layers() const { return layers_; }

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
    fmt::print(
        "| decode step, {}, {} | {:.3f} ms ({:.3f} to {:.3f}), wall {:.3f} | {:.2f} times the "
        "floor "
        "of {:.3f} ms{} |\n",
        p.name, in_words(batch), 1e3 * time.median, 1e3 * time.low, 1e3 * time.high, 1e3 * wall,
        time.median / floor, 1e3 * floor,
        full ? "" : fmt::format(", {:.2f} times as fast as full", full_step_ / time.median));
    std::fflush(stdout);
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
    fmt::print(
        "| {}, {} | {:.1f} us ({:.1f} to {:.1f}) | {:.1f}% of read bandwidth, {:.3f} times full "
        "|\n",
        what, in_words(batch), 1e6 * time.median, 1e6 * time.low, 1e6 * time.high, 100 * share,
        time.median / full.median);
    std::fflush(stdout);
  }

  // Of matrices and biases; of the embedding a step reads a row a sequence.
  double weight_bytes() const {
    const model::Description& d = model_.description();
    return double(model::Model::random_bytes(d, model::Dtype::bf16)) - 4.0 * d.n_vocab * d.n_embd;
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
  double full_step_ = 0;
  Json steps_ = Json::array(), layers_ = Json::array();
};

model::Model made_or_loaded(const BenchOptions& o, const Inputs& in) {
  return o.shape.empty() ? load_model(o, in) : random_model(in, o.made.seed);
}

// A file's output layer is there in f32 as well.
size_t weight_bytes_of(const BenchOptions& o, const model::Description& d) {
  const bool twice = o.shape.empty() && !d.tied_output;
  return model::Model::random_bytes(d, model::Dtype::bf16) +
         (twice ? size_t{4} * size_t(d.n_vocab) * size_t(d.n_embd) : 0);
}

int bench_cost_table(const BenchOptions& o, const Inputs& in) {
  const auto& d = in.header.description;
  decode::check_memory(fmt::format("--rows {} --contexts {}", o.rows, o.contexts.back()), d,
                       weight_bytes_of(o, d), o.rows, o.contexts.back(), decode::device_info().free_bytes);
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
  for (const Batch& b : batches)
    decode::check_memory(fmt::format("--batch {}x{}", b.rows, b.context), d, weight_bytes_of(o, d), b.rows,
                         b.context, device.free_bytes);
  const model::Model model = made_or_loaded(o, in);

  const decode::DeviceBandwidth bandwidth = decode::measure_bandwidth(o.repeats);
  const Timing read = timing_of(bandwidth.read), copy = timing_of(bandwidth.copy);  // GB/s
  fmt::print(
      "{}; {} in {}{}; medians of {} after a warm-up (fastest to slowest). A step is one CUDA graph, timed "
      "on the "
      "device; its floor is the weights, keys and values that it reads at the read bandwidth\n\n",
      device.name, model.info().name, model.info().dtype, o.shape.empty() ? "" : ", random weights",
      o.repeats);
  fmt::print("| what | figure | ratio |\n|---|---|---|\n");
  fmt::print("| memory, read | {:.0f} GB/s ({:.0f} to {:.0f}) | |\n", read.median, read.low, read.high);
  fmt::print("| memory, copy | {:.0f} GB/s ({:.0f} to {:.0f}) | |\n", copy.median, copy.low, copy.high);

  Bench bench(o, model, read.median);
  for (const Batch& b : batches) bench.batch(b, policies);
  const PrefillFigures prefill =
      bench_prefill(o, model, tokens_for(o, model, o.prefill_tokens), std::min(o.repeats, 5));
  print(prefill, o.prefill_tokens);

  Json json = artefact_head("deltacal-bench", 1, o.made);
  json["model"] = {
      {"name", model.info().name}, {"sha256", model.info().sha256}, {"dtype", model.info().dtype}};
  json["device"] = device.name;
  json["memory"] = {{"read_gb_s", read.median}, {"copy_gb_s", copy.median}};
  json["prefill"] = to_json(prefill, o.prefill_tokens);
  json["decode"] = bench.steps();
  json["layers"] = bench.of_layers();
  write_bench(o, json);
  return 0;
}

calib::CostTable measure_costs_on_device(const model::Model& model, int rows,
                                         const std::vector<int>& contexts, const std::vector<int>& k_pages,
                                         int repeats) {
  const int n = model.info().n_layers;
  decode::KvCache cache(model, rows, contexts.back());
  cache.fill_random(0);
  // Milliseconds of a step by context.
  const auto steps = [&](const decode::Policy& policy, StepGraph::Part part) {
    StepGraph graph(model, cache, policy, rows, part);
    std::vector<double> ms;
    for (const int context : contexts) ms.push_back(1e3 * time_of(graph, context, repeats).median);
    return ms;
  };
  const auto full = decode::full_policy(n);
  calib::CostTable table;
  table.device =
      fmt::format("{}, {} in {}", decode::device_info().name, model.info().name, model.info().dtype);
  table.batch = rows;
  table.contexts = contexts;
  table.k_pages = k_pages;
  table.other_ms = steps(full, StepGraph::Part::without_attention);
  const auto a_layer = [&](const std::vector<double>& whole) {
    std::vector<double> ms;
    for (size_t c = 0; c < contexts.size(); ++c)
      ms.push_back(std::max(0.0, (whole[c] - table.other_ms[c]) / n));
    return ms;
  };
  table.full_ms = a_layer(steps(full, StepGraph::Part::step));
  table.delta_ms =
      a_layer(steps(all_layers(n, {Attend::all_rank, k_pages.back(), 1}), StepGraph::Part::step));
  table.sparse_ms.resize(contexts.size());
  for (const int k : k_pages) {
    const std::vector<double> whole = steps(one_delta(n, {Attend::all_rank, k, 1}), StepGraph::Part::step);
    for (size_t c = 0; c < contexts.size(); ++c) {
      const double rest = whole[c] - table.other_ms[c] - table.delta_ms[c];
      table.sparse_ms[c].push_back(k >= pages_for(contexts[c]) ? table.full_ms[c]
                                                               : std::max(0.0, rest / std::max(1, n - 1)));
    }
  }
  return table;
}

}  // namespace deltacal::tools
