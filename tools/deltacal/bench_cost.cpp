#include "bench_cost.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>

#include "bench_timing.h"
#include "core/error.h"
#include "decode/decoder.h"
#include "kernels/page_score/page_score.h"
#include "kernels/paged_attention/paged_attention.h"
#include "kernels/select_pages/select_pages.h"

namespace deltacal::tools {
namespace {

std::string name_of_cpu() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (const size_t colon = line.find(": "); line.starts_with("model name") && colon != std::string::npos)
      return line.substr(colon + 2);
  return "CPU";
}

// Memory that is read to push everything else out of the caches: twice the last level, 64 to 1024 MiB.
class Sweep {
 public:
  Sweep()
      : words_(std::clamp(2 * std::max(0L, ::sysconf(_SC_LEVEL3_CACHE_SIZE)), 64L << 20, 1024L << 20) / 8,
               1) {}
  void operator()() {
    uint64_t sum = 0;
#pragma omp parallel for reduction(+ : sum)
    for (size_t i = 0; i < words_.size(); i += 8) sum += words_[i];  // one word of each line of 64 bytes
    sum_ = sum_ + sum;
  }

 private:
  std::vector<uint64_t> words_;
  volatile uint64_t sum_ = 0;  // the reads must be done
};

// Queries of one step, as each layer makes them.
class Queries : public decode::Observer {
 public:
  void layer(const decode::LayerView& view) override {
    if (view.layer == 0) q_.clear();
    q_.emplace_back(view.q(), view.q() + size_t(view.n_heads) * view.head_dim);
  }
  const float* of(int layer) const { return q_[layer].data(); }

 private:
  std::vector<std::vector<float>> q_;  // [n_layers] of [n_heads, head_dim]
};

// The kernels of one step that sees `context` positions, layer by layer.
class Step {
 public:
  Step(const model::Model& model, decode::KvCache& cache, const Queries& queries, int context,
       int longest_list)
      : info_(model.info()),
        cache_(cache),
        queries_(queries),
        length_{context},
        n_pages_{pages_for(context)},
        list_stride_(longest_list),
        score_(size_t(n_pages_[0])),
        out_(size_t(info_.n_heads) * info_.head_dim),
        lists_(size_t(info_.n_layers) * longest_list) {
    for (int layer = 0; layer < info_.n_layers; ++layer) rank(layer);
  }

  void full(int layer) { attend(layer, -1); }
  void sparse(int layer, int k_pages) { attend(layer, k_pages); }
  void delta(int layer) {
    rank(layer);
    attend(layer, -1);
  }

 private:
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(info_.head_dim)); }
  int32_t* list_of(int layer) { return &lists_[size_t(layer) * list_stride_]; }

  void rank(int layer) {
    kernels::page_score::Params p;
    p.n_rows = 1;
    p.n_heads = info_.n_heads;
    p.scale = scale();
    p.q = queries_.of(layer);
    p.kv = cache_.layer(layer);
    p.length = length_;
    p.out_pages = n_pages_[0];
    p.score = score_.data();
    kernels::page_score::cpu(p);
    kernels::select_pages::Params select;
    select.n_rows = 1;
    select.k_pages = list_stride_;
    select.l_pages = 1;
    select.n_pages = n_pages_;
    select.score = score_.data();
    select.score_stride = n_pages_[0];
    select.list = list_of(layer);
    kernels::select_pages::cpu(select);
  }

  // k_pages -1: all.
  void attend(int layer, int k_pages) {
    const int32_t list_length[] = {k_pages};
    kernels::paged_attention::Params p;
    p.n_rows = 1;
    p.n_heads = info_.n_heads;
    p.scale = scale();
    p.q = queries_.of(layer);
    p.kv = cache_.layer(layer);
    p.length = length_;
    p.list = list_of(layer);
    p.list_length = list_length;
    p.list_stride = list_stride_;
    p.out = out_.data();
    kernels::paged_attention::cpu(p);
  }

  const ModelInfo& info_;
  decode::KvCache& cache_;
  const Queries& queries_;
  const int32_t length_[1], n_pages_[1];
  const int list_stride_;
  std::vector<float> score_;    // [n_pages]
  std::vector<float> out_;      // [n_heads, head_dim]
  std::vector<int32_t> lists_;  // [n_layers, list_stride]
};

}  // namespace

calib::CostTable measure_costs(const model::Model& model, std::span<const int32_t> ids,
                               const std::vector<int>& contexts, const std::vector<int>& k_pages,
                               int repeats) {
  const int n_layers = model.info().n_layers;
  decode::KvCache cache(model, 1, contexts.back());
  Queries queries;
  decode::Decoder fill(model, cache, decode::full_policy(n_layers));
  decode::replay(fill, ids, 0, [](int, int) {});
  decode::Decoder watched(model, cache, decode::full_policy(n_layers), {&queries});
  Sweep sweep;

  calib::CostTable table;
  table.device = fmt::format("{}, {} threads, {} in {}", name_of_cpu(), model::n_threads(), model.info().name,
                             model.info().dtype);
  table.contexts = contexts;
  table.k_pages = k_pages;
  for (const int context : contexts) {
    const int32_t token[] = {ids[context - 1]}, position[] = {context - 1}, sequence[] = {0},
                  prefilled_to[] = {0};
    const decode::Rows rows{token, position, sequence, prefilled_to};
    watched.forward(rows);
    Step step(model, cache, queries, context, k_pages.back());
    const auto each_layer = [&](auto work) {
      const Timing pass = time_of(repeats, std::ref(sweep), [&] {
        for (int layer = 0; layer < n_layers; ++layer) work(layer);
      });
      return 1e3 * pass.median / n_layers;
    };
    table.full_ms.push_back(each_layer([&](int layer) { step.full(layer); }));
    table.delta_ms.push_back(each_layer([&](int layer) { step.delta(layer); }));
    table.sparse_ms.emplace_back();
    for (const int k : k_pages)
      table.sparse_ms.back().push_back(k >= pages_for(context)
                                           ? table.full_ms.back()
                                           : each_layer([&](int layer) { step.sparse(layer, k); }));
    const Timing whole = time_of(repeats, [&] {
      fill.forward(rows);
      fill.logits(0, 1);
    });
    table.other_ms.push_back(std::max(0.0, 1e3 * whole.median - n_layers * table.full_ms.back()));
  }
  return table;
}

}  // namespace deltacal::tools
