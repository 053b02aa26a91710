#include "decode/decoder.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

#include "core/error.h"
#include "decode/engine.h"
#include "decode/kept_lists.h"
#include "decode/layer_tensors.h"
#include "decode/logits_tensor.h"
#include "decode/view_tensors.h"
#include "model/weights.h"

namespace deltacal::decode {
namespace {

// Numbers [n_rows, ...] in host memory as a tensor, without a copy.
template <class T>
at::Tensor view_of(const T* numbers, at::IntArrayRef shape, at::ScalarType type) {
  return at::from_blob(const_cast<T*>(numbers), shape, at::TensorOptions(type));
}

}  // namespace

struct Decoder::Impl {
  const model::Model& model;
  KvCache& cache;
  Policy policy;
  std::vector<Observer*> observers;
  bool observers_read_query;
  gpu_trace::Session* trace;
  std::unique_ptr<Engine> engine = {};
  std::vector<KeptLists> kept = {};    // [n_layers] where lists serve several steps; otherwise empty
  std::vector<LayerReads> reads = {};  // [n_layers]

  Rows rows = {};
  int n_rows = 0;
  std::vector<int32_t> length = {};         // [n_rows] keys each row sees
  std::vector<int32_t> pages_of_row = {};   // [n_rows] U
  std::vector<uint8_t> prefilled = {};      // [n_rows] attends to everything under every policy
  at::Tensor ranked = {};                   // [n_rows, K] by the last layer that ranked
  std::vector<int32_t> ranked_length = {};  // [n_rows] pages in them
  std::vector<int32_t> list_length = {};    // [n_rows] of the layer at hand
  // [rows, E] f32: the residual stream of a pass and then, normalised, what the output layer reads of it.
  // Kept: in a place of its own it leaves no gap in a device's memory between what comes and goes with a
  // pass.
  at::Tensor stream = {};
  at::Tensor hidden = {};  // [n_rows, E] of it, at the end of a pass

  const ModelInfo& info() const { return model.info(); }
  at::Device device() const { return model.weights().embedding.device(); }

  void take(const Rows& new_rows) {
    rows = new_rows;
    n_rows = static_cast<int>(rows.token.size());
    length.resize(n_rows);
    pages_of_row.resize(n_rows);
    prefilled.resize(n_rows);
    for (int r = 0; r < n_rows; ++r) {
      const int32_t token = rows.token[r];
      if (token < 0 || token >= model.description().n_vocab)
        throw bad_input("token id {} is outside the model's vocabulary of {}", token, model.description().n_vocab);
      cache.reserve(rows.sequence[r], rows.position[r] + 1);
      length[r] = rows.position[r] + 1;
      pages_of_row[r] = pages_seen(rows.position[r]);
      prefilled[r] = rows.position[r] < rows.prefilled_to[rows.sequence[r]];
    }
    engine->begin({rows.position, rows.sequence, length, prefilled});
  }

  // The stream's rows, as the pass begins: hidden [n_rows, E] in host memory, or the tokens' embeddings.
  // [n_rows, E]
  at::Tensor begin_stream(const float* hidden_rows) {
    const int64_t n_embd = model.description().n_embd;
    if (!stream.defined() || stream.size(0) < n_rows) {
      hidden = stream = at::Tensor();  // first: no two at one time
      stream = at::empty({n_rows, n_embd}, at::TensorOptions(at::kFloat).device(device()));
    }
    at::Tensor x = stream.narrow(0, 0, n_rows);
    if (hidden_rows) return x.copy_(view_of(hidden_rows, {n_rows, n_embd}, at::kFloat));
    const at::Tensor ids = view_of(rows.token.data(), {n_rows}, at::kInt).to(device());
    return x.copy_(at::index_select(model.weights().embedding, 0, ids));
  }

  // weight [out, in] in the compute dtype, x [n_rows, in]; [n_rows, out] of the weight's type.
  static at::Tensor linear(const at::Tensor& x, const at::Tensor& weight) {
    return at::linear(x.to(weight.scalar_type()), weight);
  }

  // Of rows first_row.. of the pass, [n, V] f32.
  at::Tensor logits(int64_t first_row, int64_t n) const {
    const at::Tensor x = hidden.narrow(0, first_row, n), &weight = model.weights().output;
    if (weight.is_cuda()) return at::mm(x.to(at::kBFloat16), weight.t(), at::kFloat);
    return linear(x, weight).to(at::kFloat);
  }

  // The lists in force in each row. Where any row of the pass makes a list all are ranked: one sequence at a
  // time, a step that makes none ranks nothing. query [n_rows, H, d] f32 in host memory, before the rotary
  // embedding, where the signal needs it.
  void make_lists(int layer, const LayerPolicy& layer_policy, const at::Tensor& q, const at::Tensor& query) {
    const int k = layer_policy.k_pages;
    ranked_length.resize(n_rows);
    if (kept.empty()) {
      ranked = engine->rank(layer, layer_policy, q);
      for (int r = 0; r < n_rows; ++r) ranked_length[r] = std::min(k, pages_of_row[r]);
      return;
    }
    const float* queries = query.defined() ? query.const_data_ptr<float>() : nullptr;
    at::Tensor lists = kept[layer].plan(rows, queries) ? engine->rank(layer, layer_policy, q).cpu()
                                                       : at::empty({n_rows, k}, at::kInt);
    kept[layer].fill(rows, queries, {lists.mutable_data_ptr<int32_t>(), size_t(lists.numel())},
                     ranked_length);
    ranked = lists.to(device());
  }

  // The newest k - 1 pages and the first one, for each row that sees more than k. [n_rows, k]
  at::Tensor make_window(int k) const {
    at::Tensor window = at::full({n_rows, k}, -1, at::kInt);
    for (int r = 0; r < n_rows; ++r) {
      if (list_length[r] < 0) continue;
      int32_t* list = window.mutable_data_ptr<int32_t>() + size_t(r) * k;
      for (int i = 0; i < k - 1; ++i) list[i] = pages_of_row[r] - 1 - i;
      list[k - 1] = 0;
    }
    return window.to(device());
  }

  Lists attended_by(int layer, const LayerPolicy& layer_policy) {
    const bool ranks = layer_policy.attend == Attend::all_rank,
               slides = layer_policy.attend == Attend::window;
    if (layer_policy.attend == Attend::all || (ranks && kept.empty())) return {};
    list_length.resize(n_rows);
    const int k = layer_policy.k_pages;
    for (int r = 0; r < n_rows; ++r) {
      const bool all = prefilled[r] || k >= pages_of_row[r] || (ranks && kept[layer].makes_list(r));
      list_length[r] = all ? -1 : slides ? k : std::min(k, ranked_length[r]);
    }
    // As a layer that attends to everything, by the same kernel and to the same bits.
    if (std::ranges::all_of(list_length, [](int32_t n) { return n < 0; })) return {};
    return {slides ? make_window(k) : ranked, list_length};
  }

  void count(int layer, const LayerPolicy& layer_policy, const Lists& lists) {
    for (int r = 0; r < n_rows; ++r) {
      if (prefilled[r]) continue;
      const int t = rows.position[r], n_pages = lists.all() ? -1 : lists.length[r];
      reads[layer].attended += n_pages < 0 ? t + 1 : (n_pages - 1LL) * page_size + t % page_size + 1;
      if (layer_policy.attend != Attend::all_rank || (!kept.empty() && !kept[layer].makes_list(r))) continue;
      ++reads[layer].lists;
      if (layer_policy.k_pages > layer_policy.l_pages) reads[layer].ranked += t + 1;
    }
  }

  LayerView view_of_rows(int layer, const LayerTensors& tensors) const {
    LayerView view;
    view.layer = layer;
    view.n_rows = n_rows;
    view.n_heads = info().n_heads;
    view.head_dim = info().head_dim;
    view.position = rows.position;
    view.sequence = rows.sequence;
    view.tensors = &tensors;
    return view;
  }

  void notify(int layer, const LayerTensors& tensors, const Lists& lists) {
    LayerView view = view_of_rows(layer, tensors);
    if (!lists.all()) {
      view.list_length = lists.length;
      view.list_stride = static_cast<int>(lists.pages.size(1));
    }
    for (Observer* observer : observers) observer->layer(view);
  }

  // Queries as the projection gives them, f32 in host memory, where anyone wants them. [n_rows, H d]
  at::Tensor query_of(const LayerPolicy& own, const at::Tensor& qkv, const at::Tensor& bias) const {
    if (!(policy.refresh && own.attend == Attend::all_rank) && !observers_read_query) return {};
    const int64_t q_size = int64_t(info().n_heads) * info().head_dim;
    at::Tensor query = at::empty({n_rows, q_size}, qkv.options().dtype(at::kFloat));
    query.copy_(qkv.narrow(1, 0, q_size));
    if (bias.defined()) query.add_(bias.narrow(0, 0, q_size));
    return query.cpu();
  }

  // x [n_rows, E] gets what the layer below adds to it; what this block adds, [n_rows, E].
  at::Tensor attention_block(int layer, const model::LayerWeights& w, at::Tensor& x,
                             const at::Tensor& added) {
    at::Tensor qkv;  // [n_rows, (H + 2 G) d]
    {
      const gpu_trace::Scope scope(trace, layer, "norm");
      qkv = engine->add_and_norm(x, added, w.attention_norm);
    }
    {
      const gpu_trace::Scope scope(trace, layer, "projection of q, k, v");
      qkv = linear(qkv, w.qkv);
    }
    const LayerPolicy& layer_policy = policy.layers[layer];
    const at::Tensor query = query_of(layer_policy, qkv, w.qkv_bias);
    at::Tensor q, out;  // [n_rows, H d]
    {
      const gpu_trace::Scope scope(trace, layer, "append");
      q = engine->append(layer, std::move(qkv), w.qkv_bias);
    }
    if (layer_policy.attend == Attend::all_rank) {
      const gpu_trace::Scope scope(trace, layer, "attention and ranking");
      make_lists(layer, layer_policy, q, query);
    }
    const Lists lists = attended_by(layer, layer_policy);
    {
      const gpu_trace::Scope scope(trace, layer, lists.all() ? "attention" : "sparse attention");
      out = engine->attend(layer, q, lists);
    }
    count(layer, layer_policy, lists);
    if (!observers.empty()) {
      const gpu_trace::Scope scope(trace, layer, "observers");
      notify(layer, {engine.get(), x, q, query, lists.pages, out}, lists);
    }
    const gpu_trace::Scope scope(trace, layer, "projection of outputs");
    return linear(out, w.attention_out);
  }

  // As attention_block().
  at::Tensor feed_forward_block(int layer, const model::LayerWeights& w, at::Tensor& x,
                                const at::Tensor& added) const {
    at::Tensor at_hand;
    {
      const gpu_trace::Scope scope(trace, layer, "norm");
      at_hand = engine->add_and_norm(x, added, w.feed_norm);
    }
    const gpu_trace::Scope scope(trace, layer, "feed-forward");
    at_hand = linear(at_hand, w.gate_up);  // [n_rows, 2 F]
    if (!observers.empty()) {
      LayerTensors tensors;
      tensors.engine = engine.get();
      tensors.gate_up = at_hand;
      const LayerView view = view_of_rows(layer, tensors);
      for (Observer* observer : observers) observer->feed_forward(view);
    }
    at_hand = engine->gate(at_hand);  // [n_rows, F]
    return linear(at_hand, w.down);
  }
};

Decoder::Decoder(const model::Model& model, KvCache& cache, Policy policy, std::vector<Observer*> observers,
                 gpu_trace::Session* trace)
    : impl_(new Impl{model, cache, std::move(policy), observers,
                     std::ranges::any_of(observers, [](const Observer* o) { return o->reads_query(); }),
                     trace}) {
  Impl& d = *impl_;
  if (static_cast<int>(d.policy.layers.size()) != model.info().n_layers)
    throw bad_input("the schedule has {} layers, the model {} has {}", d.policy.layers.size(),
                    model.info().name, model.info().n_layers);
  d.engine = engine_for(model, cache, d.policy);
  d.reads.resize(d.policy.layers.size());
  if (d.policy.keeps_lists())
    for (const LayerPolicy& layer : d.policy.layers)
      d.kept.emplace_back(d.policy, layer, model.info().n_heads, model.info().head_dim);
}

Decoder::~Decoder() = default;

const Policy& Decoder::policy() const { return impl_->policy; }
model::Device Decoder::device() const {
  return impl_->model.device();
}
std::span<const LayerReads> Decoder::reads() const { return impl_->reads; }

void Decoder::forward(const Rows& rows, int first_layer, const float* hidden) {
  const c10::InferenceMode inference;
  Impl& d = *impl_;
  d.take(rows);
  at::Tensor x = d.begin_stream(first_layer == 0 ? nullptr : hidden);  // [n_rows, E]
  at::Tensor added;                                                    // [n_rows, E] by the last block
  for (int layer = first_layer; layer < d.info().n_layers; ++layer) {
    const model::LayerWeights& w = d.model.weights().layers[layer];
    added = d.attention_block(layer, w, x, added);
    added = d.feed_forward_block(layer, w, x, added);
  }
  d.engine->end();
  if (added.defined()) x.add_(added.to(at::kFloat));
  // In f32: on a device logits() rounds it, as the output layer takes it.
  d.hidden =
      x.copy_(at::rms_norm(x, {x.size(-1)}, d.model.weights().output_norm, d.model.description().rms_eps));
}

namespace {

template <class T>
const T* host_copy(const at::Tensor& t, at::Tensor& copy, at::ScalarType type) {
  if (!t.defined()) return nullptr;
  if (!copy.defined()) copy = t.to(at::kCPU, type).contiguous();
  return copy.const_data_ptr<T>();
}

}  // namespace

const float* LayerView::hidden() const {
  return host_copy<float>(tensors->hidden, tensors->host_hidden, at::kFloat);
}
const float* LayerView::q() const {
  return host_copy<float>(tensors->q, tensors->host_q, at::kFloat);
}
const float* LayerView::query() const {
  return tensors->query.defined() ? tensors->query.const_data_ptr<float>() : nullptr;
}
const int32_t* LayerView::list() const {
  return host_copy<int32_t>(tensors->list, tensors->host_list, at::kInt);
}

const at::Tensor& hidden_of(const LayerView& view) {
  return view.tensors->hidden;
}

const at::Tensor& q_of(const LayerView& view) {
  return view.tensors->q;
}
const at::Tensor& attention_of(const LayerView& view) {
  return view.tensors->out;
}
at::Tensor log_sum_exp_of(const LayerView& view) {
  return view.tensors->engine->log_sum_exp(view.layer);
}
const at::Tensor& gate_up_of(const LayerView& view) {
  return view.tensors->gate_up;
}

TakeRows begin_rows_of_q(const LayerView& view, std::span<const int> rows) {
  const c10::InferenceMode inference;
  return view.tensors->engine->take_rows(view.tensors->q, rows);
}
TakeRows begin_rows_of_log_sum_exp(const LayerView& view, std::span<const int> rows) {
  const c10::InferenceMode inference;
  return view.tensors->engine->take_rows(log_sum_exp_of(view), rows);
}

Logits Decoder::logits(int first_row, int n_rows) {
  const c10::InferenceMode inference;
  const gpu_trace::Scope scope(impl_->trace, -1, "logits");
  Logits out;
  out.impl_->values = impl_->logits(first_row, n_rows);
  return out;
}

std::vector<float> Decoder::nll(int first_row, std::span<const int32_t> target) {
  const c10::InferenceMode inference;
  const gpu_trace::Scope scope(impl_->trace, -1, "logits");
  std::vector<at::Tensor> parts;
  for (size_t first = 0; first < target.size(); first += rows_of_logits) {
    const auto part = target.subspan(first, std::min<size_t>(rows_of_logits, target.size() - first));
    parts.push_back(impl_->engine->nll(impl_->logits(first_row + int64_t(first), std::ssize(part)), part));
  }
  if (parts.empty()) return {};
  const at::Tensor nll = at::cat(parts).cpu();
  return {nll.const_data_ptr<float>(), nll.const_data_ptr<float>() + nll.numel()};
}

}  // namespace deltacal::decode
