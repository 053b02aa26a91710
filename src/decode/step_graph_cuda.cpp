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
#include "decode/step_inputs.h"
#include "decode/step_memory.h"
#include "decode/step_recording.h"
#include "kernels/cuda/graph.h"
#include "kernels/linear/cuda.h"
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
at::Tensor zero_bytes(size_t n) {
  return at::zeros({int64_t(n)}, at::TensorOptions(at::kByte).device(at::kCUDA));
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
  at::Tensor gate_up;    // [R, 2 F] bf16, where cuBLAS makes it
  at::Tensor gated;      // [R, F] bf16
  at::Tensor down;       // [R, E] bf16, by the feed-forward part, what the residual stream gets
  at::Tensor logits;     // [R, V] f32
  at::Tensor records;    // bytes, PageLogits::records
  at::Tensor lse2;       // [R, H] f32
  at::Tensor score;      // [R, P] f32
  at::Tensor list;       // [R, K] int32 at most, by the last layer that ranked: rows as long as its list
  // Bytes, zero before their first use, each call leaves them so.
  at::Tensor attention_workspace, linear_workspace;
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
  Maps maps;

  c10::Stream stream;
  gpu::Launch on;
  Buffers b = {};
  at::Tensor frequencies = {};
  std::unique_ptr<StepInputs> inputs = {};
  gpu::Event earlier = {}, finished = {}, timed_from = gpu::Event(true), timed_to = gpu::Event(true);
  gpu::Graph graph = {}, recorded_graph = {};
  std::unique_ptr<StepRecording> recording = {};
  bool last_recorded = false;

  const ModelInfo& info() const { return model.info(); }
  const model::Description& description() const { return model.description(); }
  const model::Weights& weights() const { return model.weights(); }
  const int32_t* length() const { return inputs->length(); }
  gpu::PagedKv pages(int layer) const { return pages_of(cache, info(), layer, inputs->page_table()); }

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
    if (!own_linear(F)) b.gate_up = made({R, 2 * F}, at::kBFloat16);
    b.gated = made({R, F}, at::kBFloat16);
    b.down = made({R, E}, at::kBFloat16);
    b.logits = made({R, description().n_vocab}, at::kFloat);
    const bool ranks = std::ranges::any_of(policy.layers, needs_scores);
    if (ranks || maps != Maps::none) {
      b.records =
          made({int64_t(gpu::records_bytes(n_rows, info().n_heads, info().n_kv_heads, int(P)))}, at::kByte);
      b.lse2 = made({R, info().n_heads}, at::kFloat);
    }
    if (ranks) b.score = made({R, P}, at::kFloat);
    if (const int k = longest_list(policy); k > 0) b.list = made({R, k}, at::kInt);
    // What a part leaves out is numbers all the same.
    for (const at::Tensor* t : {&b.x, &b.qkv, &b.attended}) at::Tensor(*t).zero_();
    at::Tensor(b.q).fill_(0.01);
    b.attention_workspace =
        zero_bytes(gpu::paged_attention::workspace_bytes(n_rows, info().n_heads, pages(0)));
    b.linear_workspace = zero_bytes(gpu::linear::workspace_bytes());
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
  // Few rows: a kernel bound by reading the weight. Many, or of odd size (a vocabulary): cuBLAS.
  bool own_linear(int64_t out_size) const {
    return n_rows <= gpu::linear::max_rows() && out_size % gpu::chunk_elements == 0;
  }

  // out [R, out] bf16 or f32, x [R, in], weight [out, in].
  void linear(at::Tensor& out, const at::Tensor& x, const at::Tensor& weight) const {
    if (own_linear(out.size(1)))
      multiply(out, x, weight, false);
    else if (out.scalar_type() == at::kFloat)
      at::mm_out(out, x, weight.t(), at::kFloat);
    else
      at::mm_out(out, x, weight.t());
  }
  void multiply(at::Tensor& out, const at::Tensor& x, const at::Tensor& weight, bool gated) const {
    gpu::linear::Params p;
    p.n_rows = n_rows;
    p.n = int(out.size(1));
    p.k = int(x.size(1));
    p.gated = gated;
    p.x = x.const_data_ptr();
    p.weight = weight.const_data_ptr();
    p.out_f32 = out.scalar_type() == at::kFloat;
    p.out = out.mutable_data_ptr();
    p.workspace = b.linear_workspace.mutable_data_ptr();
    gpu::linear::run(p, on);
  }
  void gate(at::Tensor& out) const {
    gpu::swiglu::Params p;
    p.n_rows = n_rows;
    p.n = description().n_ff;
    p.gate_up = b.gate_up.const_data_ptr();
    p.out = out.mutable_data_ptr();
    gpu::swiglu::run(p, on);
  }

  void append(int layer, const model::LayerWeights& w) const {
    gpu::append_kv::Params p = append_params(description(), frequencies, n_rows, b.qkv, b.q);
    p.position = inputs->position();
    if (w.qkv_bias.defined()) p.bias = w.qkv_bias.const_data_ptr<float>();
    p.kv = pages(layer);
    gpu::append_kv::run(p, on);
  }

  // What a layer's attention reads early is not the work of the kernel right before it, which has waited for
  // all others, the selection of a list included, before it let this one start: the append; or, where only
  // attention runs, what the layer before ends with, unless that selects the list.
  bool reads_early(int layer) const {
    if (part == Part::step) return true;
    return maps == Maps::none && layer > 0 &&
           (policy.layers[size_t(layer)].attend != Attend::list ||
            policy.layers[size_t(layer) - 1].attend != Attend::all_rank);
  }

  void attend(int layer, bool recorded) const {
    const LayerPolicy& own = policy.layers[size_t(layer)];
    gpu::paged_attention::Params p;
    p.n_rows = n_rows;
    p.n_heads = info().n_heads;
    p.scale = attention_scale(info());
    p.q = b.q.const_data_ptr();
    p.kv = pages(layer);
    p.length = length();
    p.out = b.attended.mutable_data_ptr();
    p.workspace = b.attention_workspace.mutable_data_ptr();
    p.early = reads_early(layer);
    if (own.attend == Attend::list) {
      p.list = b.list.const_data_ptr<int32_t>();
      p.list_stride = pages_in_list(layer);
      p.k_pages = std::min(own.k_pages, p.list_stride);
    }
    if (recorded || needs_scores(own)) p.logits = records();
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
    p.last_use = true;  // recording comes before
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

  void enqueue(bool recorded) {
    const bool attention = part != Part::without_attention, others = part != Part::attention;
    const auto in_phase = [&](int layer, const char* phase, bool wanted, const auto& work) {
      if (!wanted) return;
      const Scope scope(session, layer, phase);
      work();
    };
    in_phase(-1, "embedding", others,
             [&] { at::index_select_out(b.x, weights().embedding, 0, inputs->tokens()); });
    for (int layer = 0; layer < info().n_layers; ++layer) {
      const model::LayerWeights& w = weights().layers[size_t(layer)];
      const LayerPolicy& own = policy.layers[size_t(layer)];
      in_phase(layer, "norm", others, [&] { norm(layer > 0 ? &b.down : nullptr, w.attention_norm); });
      in_phase(layer, "linear", others, [&] { linear(b.qkv, b.normed, w.qkv); });
      in_phase(layer, "append", others, [&] { append(layer, w); });
      in_phase(layer, own.attend == Attend::list ? "sparse attention" : "attention", attention,
               [&] { attend(layer, recorded); });
      in_phase(layer, "recording", recorded, [&] { recording->score(layer, records(), length(), on); });
      in_phase(layer, "page score", attention && needs_scores(own), [&] { score(); });
      in_phase(layer, "selection", attention && own.attend == Attend::all_rank, [&] { select(own); });
      in_phase(layer, "linear", others, [&] { linear(b.projected, b.attended, w.attention_out); });
      in_phase(layer, "norm", others, [&] { norm(&b.projected, w.feed_norm); });
      const bool in_one = own_linear(b.gated.size(1));
      in_phase(layer, "linear", others, [&] {
        if (in_one)
          multiply(b.gated, b.normed, w.gate_up, true);
        else
          linear(b.gate_up, b.normed, w.gate_up);
      });
      in_phase(layer, "swiglu", others && !in_one, [&] { gate(b.gated); });
      in_phase(layer, "linear", others, [&] { linear(b.down, b.gated, w.down); });
    }
    in_phase(-1, "norm", others, [&] { norm(&b.down, weights().output_norm); });
    in_phase(-1, "output layer", others, [&] { linear(b.logits, b.normed, weights().output); });
  }

  // Once for real with all rows idle, which changes nothing of the cache: it makes cuBLAS and the runtime
  // take the memory and load the code that they take at a first call, which a capture must not.
  void capture() {
    frequencies = frequencies_on_device(description());
    inputs = std::make_unique<StepInputs>(cache, n_rows, description().n_vocab);
    allocate();
    if (maps != Maps::none)
      recording = std::make_unique<StepRecording>(
          info(), n_rows, cache.max_pages(), maps == Maps::heads,
          c10::impl::VirtualGuardImpl(at::kCUDA).getNewStream(weights().embedding.device()));
    const OnStream here(stream);
    begin();
    enqueue(false);
    gpu::wait_for(on.stream);
    graph = gpu::Graph(on.stream, [&] { enqueue(false); });
    if (maps == Maps::none) return;
    enqueue(true);
    gpu::wait_for(on.stream);
    recorded_graph = gpu::Graph(on.stream, [&] { enqueue(true); });
  }
  void launch(bool recorded) {
    last_recorded = recorded;
    (recorded ? recorded_graph : graph).launch(on.stream);
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
};

namespace {

// What can be said before anything is asked of the device.
void check(const model::Model& model, const KvCache& cache, const Policy& policy, int n_rows, bool maps) {
  if (model.device() != model::Device::cuda)
    throw bad_input("a step as a CUDA graph: the model {} is not on a CUDA device", model.info().name);
  check_for_capture(policy, model.info().n_layers);
  if (maps && std::ranges::count(policy.layers, Attend::list, &LayerPolicy::attend) > 0)
    throw bad_input("page maps are recorded of layers that attend to all pages: use full attention");
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
                     gpu_trace::Session* session, Maps maps) {
  const c10::InferenceMode inference;
  check(model, cache, policy, n_rows, maps != Maps::none);
  const c10::impl::VirtualGuardImpl device(at::kCUDA);
  const c10::Stream stream = device.getNewStream(model.weights().embedding.device());
  gpu::Launch on;
  on.stream = static_cast<cudaStream_t>(device.getStreamNativeHandle(stream));
  on.overlap = true;
  impl_.reset(new Impl{model, cache, std::move(policy), n_rows, part, session, maps, stream, on});
  try {
    impl_->capture();
  } catch (const c10::OutOfMemoryError&) {
    const StepMemory need =
        step_memory(model.description(), model.weight_bytes(), n_rows, cache.max_positions(),
                    {.records = maps != Maps::none, .group_mass = maps == Maps::heads});
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

void StepGraph::run(std::span<const int32_t> token, std::span<const int32_t> position, bool recorded) {
  if (recorded && !impl_->recording)
    throw failure("a step to record, and no graph that does. This is a mistake in deltacal.");
  impl_->begin();
  impl_->inputs->take(token, position, impl_->on.stream);
  if (recorded) impl_->recording->before(impl_->on.stream);
  impl_->launch(recorded);
  if (recorded) impl_->recording->after(impl_->on.stream);
  impl_->end();
}

Logits StepGraph::logits() const {
  const c10::InferenceMode inference;
  Logits out;
  out.impl_->values = impl_->b.logits.clone();
  return out;
}

StepMaps StepGraph::take_maps() {
  return impl_->recording->take();
}

void StepGraph::launch() {
  impl_->begin();
  impl_->launch(impl_->last_recorded);
  impl_->end();
}

void StepGraph::launch_kernels(gpu_trace::Session* session) {
  const c10::InferenceMode inference;
  const OnStream here(impl_->stream);
  struct Exchanged {
    gpu_trace::Session*& place;
    gpu_trace::Session* own;
    ~Exchanged() { place = own; }
  } exchanged{impl_->session, std::exchange(impl_->session, session)};
  impl_->begin();
  impl_->enqueue(false);
  impl_->end();
}

double StepGraph::timed_launch() {
  impl_->begin();
  impl_->timed_from.record(impl_->on.stream);
  impl_->launch(impl_->last_recorded);
  impl_->timed_to.record(impl_->on.stream);
  impl_->end();
  impl_->timed_to.wait();
  return impl_->timed_to.seconds_since(impl_->timed_from);
}

void StepGraph::wait() const {
  gpu::wait_for(impl_->on.stream);
  if (impl_->recording) impl_->recording->wait();
}

}  // namespace deltacal::decode
