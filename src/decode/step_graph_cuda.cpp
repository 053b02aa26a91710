#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "decode/device_model.h"
#include "decode/logits_tensor.h"
#include "decode/scored_rows.h"
#include "decode/step_graph.h"
#include "decode/step_memory.h"
#include "kernels/cuda/graph.h"
#include "kernels/page_score/cuda.h"
#include "kernels/paged_attention/cuda.h"
#include "kernels/rms_norm/cuda.h"
#include "kernels/select_pages/cuda.h"
#include "kernels/swiglu/cuda.h"
#include "model/weights.h"

namespace deltacal::decode {
namespace {

namespace gpu = kernels::cuda;
using gpu_trace::Scope;

at::Tensor made(std::vector<int64_t> shape, at::ScalarType type) {
  return at::empty(shape, at::TensorOptions(type).device(at::kCUDA));
}
float* floats(const at::Tensor& t) {
  return t.mutable_data_ptr<float>();
}

// LibTorch's operators go to `stream` while this lives.
class OnStream {
 public:
  explicit OnStream(c10::Stream stream) : guard_(at::kCUDA), before_(guard_.exchangeStream(stream)) {}
  ~OnStream() { guard_.exchangeStream(before_); }
  OnStream(const OnStream&) = delete;

 private:
  c10::impl::VirtualGuardImpl guard_;
  c10::Stream before_;
};

// Arrays of a step in device memory, written anew by each layer. R rows, E embedding, H query heads, G
// key/value heads, d head dimension, F feed-forward, V vocabulary, P pages of a sequence, K of the longest
// list.
struct Buffers {
  at::Tensor x;          // [R, E] f32, the residual stream
  at::Tensor normed;     // [R, E] bf16
  at::Tensor qkv;        // [R, (H + 2 G) d] bf16
  at::Tensor q;          // [R, H d] bf16, rotated
  at::Tensor attended;   // [R, H d] bf16
  at::Tensor projected;  // [R, E] bf16, by attention, what the residual stream gets
  at::Tensor gate_up;    // [R, 2 F] bf16
  at::Tensor gated;      // [R, F] bf16
  at::Tensor down;       // [R, E] bf16, by the feed-forward part, what the residual stream gets
  at::Tensor logits;     // [R, V] f32
  at::Tensor records;    // bytes, PageLogits::records
  at::Tensor lse2;       // [R, H] f32
  at::Tensor score;      // [R, P] f32
  at::Tensor list;       // [R, K] int32 at most, by the last layer that ranked: rows as long as its list
  at::Tensor workspace;  // bytes, of paged attention: zero before its first use, each call leaves it so
};

// Longest list that a layer makes; 0: none does.
int longest_list(const Policy& policy) {
  int k = 0;
  for (const LayerPolicy& p : policy.layers)
    if (p.attend == Attend::all_rank) k = std::max(k, p.k_pages);
  return k;
}
bool needs_scores(const LayerPolicy& p) {
  return p.attend == Attend::all_rank && p.k_pages > p.l_pages;
}

}  // namespace

struct StepGraph::Impl {
  const model::Model& model;
  KvCache& cache;
  Policy policy;
  int n_rows;
  Part part;
  gpu_trace::Session* session;

  c10::Stream stream;
  gpu::Launch on;
  Buffers b = {};
  at::Tensor frequencies = {};
  // In one array, for one upload: token, position and length [n_rows] each, then the page table [n_rows,
  // max_pages]
  at::Tensor inputs = {};
  // Two, so that a step's can be filled while the last one's are read.
  static constexpr int n_slots = 2;
  std::vector<std::unique_ptr<gpu::PinnedInts>> pinned = {};
  gpu::Event uploaded[n_slots] = {};
  gpu::Event earlier = {}, finished = {}, timed_from = gpu::Event(true), timed_to = gpu::Event(true);
  long long n_steps = 0, table_version = -1;  // of the cache's table as uploaded last
  gpu::Graph graph = {};

  const ModelInfo& info() const { return model.info(); }
  const model::Description& description() const { return model.description(); }
  const model::Weights& weights() const { return model.weights(); }
  const int32_t* input(int which) const {
    return inputs.const_data_ptr<int32_t>() + size_t(which) * size_t(n_rows);
  }
  const int32_t* position() const { return input(1); }
  const int32_t* length() const { return input(2); }
  gpu::PagedKv pages(int layer) const { return pages_of(cache, info(), layer, input(3)); }

  void allocate() {
    const int64_t R = n_rows, E = description().n_embd, F = description().n_ff, P = cache.max_pages(),
                  q_size = int64_t(info().n_heads) * info().head_dim,
                  kv_size = int64_t(info().n_kv_heads) * info().head_dim;
    b.x = made({R, E}, at::kFloat);
    b.normed = made({R, E}, at::kBFloat16);
    b.qkv = made({R, q_size + 2 * kv_size}, at::kBFloat16);
    b.q = made({R, q_size}, at::kBFloat16);
    b.attended = made({R, q_size}, at::kBFloat16);
    b.projected = made({R, E}, at::kBFloat16);
    b.gate_up = made({R, 2 * F}, at::kBFloat16);
    b.gated = made({R, F}, at::kBFloat16);
    b.down = made({R, E}, at::kBFloat16);
    b.logits = made({R, description().n_vocab}, at::kFloat);
    if (std::ranges::any_of(policy.layers, needs_scores)) {
      b.records =
          made({int64_t(gpu::records_bytes(n_rows, info().n_heads, info().n_kv_heads, int(P)))}, at::kByte);
      b.lse2 = made({R, info().n_heads}, at::kFloat);
      b.score = made({R, P}, at::kFloat);
    }
    if (const int k = longest_list(policy); k > 0) b.list = made({R, k}, at::kInt);
    // What a part leaves out is numbers all the same.
    for (const at::Tensor* t : {&b.x, &b.qkv, &b.attended}) at::Tensor(*t).zero_();
    at::Tensor(b.q).fill_(0.01);
    b.workspace =
        at::zeros({int64_t(gpu::paged_attention::workspace_bytes(n_rows, info().n_heads, pages(0)))},
                  at::TensorOptions(at::kByte).device(at::kCUDA));
  }

  // ---- what is captured ----

  void norm(const at::Tensor* added, const at::Tensor& weight) const {
    gpu::rms_norm::Params p;
    p.n_rows = n_rows;
    p.n = description().n_embd;
    p.epsilon = description().rms_eps;
    p.x = floats(b.x);
    p.y = added ? added->const_data_ptr() : nullptr;
    p.weight = weight.const_data_ptr<float>();
    p.out = b.normed.mutable_data_ptr();
    gpu::rms_norm::run(p, on);
  }
  // out [R, out], x [R, in], weight [out, in].
  static void linear(at::Tensor& out, const at::Tensor& x, const at::Tensor& weight) {
    at::mm_out(out, x, weight.t());
  }

  void append(int layer, const model::LayerWeights& w) const {
    gpu::append_kv::Params p = append_params(description(), frequencies, n_rows, b.qkv, b.q);
    p.position = position();
    if (w.qkv_bias.defined()) p.bias = w.qkv_bias.const_data_ptr<float>();
    p.kv = pages(layer);
    gpu::append_kv::run(p, on);
  }

  void attend(int layer) const {
    const LayerPolicy& own = policy.layers[size_t(layer)];
    gpu::paged_attention::Params p;
    p.n_rows = n_rows;
    p.n_heads = info().n_heads;
    p.scale = attention_scale(info());
    p.q = b.q.const_data_ptr();
    p.kv = pages(layer);
    p.length = length();
    p.out = b.attended.mutable_data_ptr();
    p.workspace = b.workspace.mutable_data_ptr();
    // Right after the append, which begins when everything before it, the selection of a list included, has
    // ended.
    p.early = part == Part::step;
    if (own.attend == Attend::list) {
      p.list = b.list.const_data_ptr<int32_t>();
      p.list_stride = pages_in_list(layer);
      p.k_pages = std::min(own.k_pages, p.list_stride);
    }
    if (needs_scores(own)) p.logits = records();
    gpu::paged_attention::run(p, on);
  }
  gpu::PageLogits records() const {
    return {cache.max_pages(), b.records.mutable_data_ptr(), floats(b.lse2)};
  }

  void score() const {
    gpu::page_score::Params p;
    p.n_rows = n_rows;
    p.n_heads = info().n_heads;
    p.n_kv_heads = info().n_kv_heads;
    p.logits = records();
    p.length = length();
    p.page = kernel_page(policy.page_score);
    p.out_pages = cache.max_pages();
    p.score = floats(b.score);
    gpu::page_score::run(p, on);
  }

  // Of the list that serves a layer.
  int pages_in_list(int layer) const {
    while (policy.layers[size_t(layer)].attend != Attend::all_rank) --layer;
    return policy.layers[size_t(layer)].k_pages;
  }

  void select(const LayerPolicy& own) const {
    gpu::select_pages::Params p;
    p.n_rows = n_rows;
    p.k_pages = own.k_pages;
    p.l_pages = own.l_pages;
    p.position_bias = policy.position_bias;
    p.score = needs_scores(own) ? b.score.const_data_ptr<float>() : nullptr;
    p.score_stride = cache.max_pages();
    p.length = length();
    p.list = b.list.mutable_data_ptr<int32_t>();
    gpu::select_pages::run(p, on);
  }

  void enqueue() {
    const bool attention = part != Part::without_attention, others = part != Part::attention;
    const auto in_phase = [&](int layer, const char* phase, bool wanted, const auto& work) {
      if (!wanted) return;
      const Scope scope(session, layer, phase);
      work();
    };
    in_phase(-1, "embedding", others,
             [&] { at::index_select_out(b.x, weights().embedding, 0, inputs.narrow(0, 0, n_rows)); });
    for (int layer = 0; layer < info().n_layers; ++layer) {
      const model::LayerWeights& w = weights().layers[size_t(layer)];
      const LayerPolicy& own = policy.layers[size_t(layer)];
      in_phase(layer, "norm", others, [&] { norm(layer > 0 ? &b.down : nullptr, w.attention_norm); });
      in_phase(layer, "linear", others, [&] { linear(b.qkv, b.normed, w.qkv); });
      in_phase(layer, "append", others, [&] { append(layer, w); });
      in_phase(layer, own.attend == Attend::list ? "sparse attention" : "attention", attention,
               [&] { attend(layer); });
      in_phase(layer, "page score", attention && needs_scores(own), [&] { score(); });
      in_phase(layer, "selection", attention && own.attend == Attend::all_rank, [&] { select(own); });
      in_phase(layer, "linear", others, [&] { linear(b.projected, b.attended, w.attention_out); });
      in_phase(layer, "norm", others, [&] { norm(&b.projected, w.feed_norm); });
      in_phase(layer, "linear", others, [&] { linear(b.gate_up, b.normed, w.gate_up); });
      in_phase(layer, "swiglu", others, [&] { gate(); });
      in_phase(layer, "linear", others, [&] { linear(b.down, b.gated, w.down); });
    }
    in_phase(-1, "norm", others, [&] { norm(&b.down, weights().output_norm); });
    in_phase(-1, "output layer", others,
             [&] { at::mm_out(b.logits, b.normed, weights().output_16().t(), at::kFloat); });
  }
  void gate() const {
    gpu::swiglu::Params p;
    p.n_rows = n_rows;
    p.n = description().n_ff;
    p.gate_up = b.gate_up.const_data_ptr();
    p.out = b.gated.mutable_data_ptr();
    gpu::swiglu::run(p, on);
  }

  // Once for real with all rows idle, which changes nothing of the cache: it makes cuBLAS and the runtime
  // take the memory and load the code that they take at a first call, which a capture must not.
  void capture() {
    weights().output_16();
    frequencies = frequencies_on_device(description());
    std::vector<int32_t> idle(size_t(n_rows) * (3 + size_t(cache.max_pages())), 0);
    std::fill_n(idle.begin() + n_rows, n_rows, -1);
    inputs = at::from_blob(idle.data(), {std::ssize(idle)}, at::kInt).to(at::kCUDA);
    allocate();
    for (int slot = 0; slot < n_slots; ++slot)
      pinned.push_back(std::make_unique<gpu::PinnedInts>(idle.size()));
    const OnStream here(stream);
    begin();
    enqueue();
    gpu::wait_for(on.stream);
    graph = gpu::Graph(on.stream, [&] { enqueue(); });
  }

  // ---- a step ----

  // LibTorch's own stream and this one wait for each other where their work meets.
  void begin() {
    earlier.record(nullptr);
    earlier.hold(on.stream);
  }
  void end() {
    finished.record(on.stream);
    finished.hold(nullptr);
  }

  void take(std::span<const int32_t> token, std::span<const int32_t> position_of_row) {
    if (std::ssize(token) != n_rows || std::ssize(position_of_row) != n_rows)
      throw bad_input("a step of {} tokens and {} positions: the graph has {} rows", token.size(),
                      position_of_row.size(), n_rows);
    for (int r = 0; r < n_rows; ++r) {
      if (position_of_row[r] < 0) continue;
      if (token[r] < 0 || token[r] >= description().n_vocab)
        throw bad_input("token id {} is outside the model's vocabulary of {}", token[r],
                        description().n_vocab);
      cache.reserve(r, position_of_row[r] + 1);
    }
    const int slot = static_cast<int>(n_steps++ % n_slots);
    uploaded[slot].wait();
    int32_t* to = pinned[slot]->get();
    for (int r = 0; r < n_rows; ++r) {
      const bool idle = position_of_row[r] < 0;
      to[r] = idle ? 0 : token[r];
      to[n_rows + r] = idle ? -1 : position_of_row[r];
      to[2 * n_rows + r] = idle ? 0 : position_of_row[r] + 1;
    }
    size_t n = 3 * size_t(n_rows);
    if (table_version != cache.table_version()) {
      const auto table = cache.page_table().first(size_t(n_rows) * size_t(cache.max_pages()));
      std::ranges::copy(table, to + n);
      n += table.size();
      table_version = cache.table_version();
    }
    gpu::copy_to_device(inputs.mutable_data_ptr<int32_t>(), to, n, on.stream);
    uploaded[slot].record(on.stream);
  }
};

namespace {

// What can be said before anything is asked of the device.
void check(const model::Model& model, const KvCache& cache, const Policy& policy, int n_rows) {
  if (model.device() != model::Device::cuda)
    throw bad_input("a step as a CUDA graph: the model {} is not on a CUDA device", model.info().name);
  check_for_capture(policy, model.info().n_layers);
  if (n_rows < 1 || n_rows > cache.n_sequences())
    throw bad_input("a step of {} rows: the KV cache has 1 to {}", n_rows, cache.n_sequences());
  if (std::ranges::any_of(policy.layers, needs_scores) && cache.max_pages() > gpu::select_pages::max_pages)
    throw bad_input(
        "a KV cache of {} positions a sequence: page selection on a CUDA device has no kernel for more "
        "than {}",
        cache.max_positions(), gpu::select_pages::max_pages * page_size);
  check_kernels_for(model.info());
}

}  // namespace

StepGraph::StepGraph(const model::Model& model, KvCache& cache, Policy policy, int n_rows, Part part,
                     gpu_trace::Session* session) {
  const c10::InferenceMode inference;
  check(model, cache, policy, n_rows);
  const c10::impl::VirtualGuardImpl device(at::kCUDA);
  const c10::Stream stream = device.getNewStream(model.weights().embedding.device());
  gpu::Launch on;
  on.stream = static_cast<cudaStream_t>(device.getStreamNativeHandle(stream));
  on.overlap = true;
  impl_.reset(new Impl{model, cache, std::move(policy), n_rows, part, session, stream, on});
  try {
    impl_->capture();
  } catch (const c10::OutOfMemoryError&) {
    const StepMemory need =
        step_memory(model.description(), model.weight_bytes(), n_rows, cache.max_positions());
    throw failure(
        "no device memory for a step of {} rows ({:.1f} GB besides weights and KV cache): use fewer rows",
        n_rows, 1e-9 * double(need.buffers));
  }
}

StepGraph::~StepGraph() {
  if (!impl_) return;
  try {
    wait();                          // nothing of a step may still use the buffers
  } catch (const std::exception&) {  // the device's error was or will be met elsewhere
  }
}

int StepGraph::n_rows() const {
  return impl_->n_rows;
}

void StepGraph::run(std::span<const int32_t> token, std::span<const int32_t> position) {
  impl_->begin();
  impl_->take(token, position);
  impl_->graph.launch(impl_->on.stream);
  impl_->end();
}

Logits StepGraph::logits() const {
  const c10::InferenceMode inference;
  Logits out;
  out.impl_->values = impl_->b.logits.clone();
  return out;
}

void StepGraph::launch() {
  impl_->graph.launch(impl_->on.stream);
}

void StepGraph::launch_kernels(gpu_trace::Session* session) {
  const c10::InferenceMode inference;
  const OnStream here(impl_->stream);
  const auto own = std::exchange(impl_->session, session);
  impl_->enqueue();
  impl_->session = own;
}

double StepGraph::timed_launch() {
  impl_->timed_from.record(impl_->on.stream);
  launch();
  impl_->timed_to.record(impl_->on.stream);
  impl_->timed_to.wait();
  return impl_->timed_to.seconds_since(impl_->timed_from);
}

void StepGraph::wait() const {
  gpu::wait_for(impl_->on.stream);
}

}  // namespace deltacal::decode
