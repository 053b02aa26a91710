#include "decode/decoder.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "decode/kept_lists.h"
#include "decode/logits_tensor.h"
#include "decode/scored_rows.h"
#include "kernels/append_kv/append_kv.h"
#include "kernels/page_score/page_score.h"
#include "kernels/paged_attention/paged_attention.h"
#include "kernels/select_pages/select_pages.h"
#include "model/weights.h"

namespace deltacal::decode {
namespace {

// Pages of each row.
struct PageLists {
  int stride = 0;
  std::vector<int32_t> pages;   // [n_rows, stride]
  std::vector<int32_t> length;  // [n_rows] of the ranked lists
};

// The pages that each row attends to in the layer at hand.
struct Attended {
  const int32_t* list = nullptr;         // [n_rows, stride]; null: all pages in every row
  const int32_t* list_length = nullptr;  // [n_rows] -1: all pages
  int stride = 0;
};

// x / rms(x) * weight over the last dimension, in f32. x [n_rows, E].
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return at::rms_norm(x, {x.size(-1)}, weight, eps);
}

float* data(at::Tensor& t) { return t.mutable_data_ptr<float>(); }

}  // namespace

struct Decoder::Impl {
  const model::Model& model;
  KvCache& cache;
  Policy policy;
  std::vector<Observer*> observers;
  bool observers_read_query;
  std::vector<float> inverse_frequency;  // [rotary_dim / 2]

  Rows rows;
  int n_rows = 0;
  std::vector<int32_t> length;        // [n_rows] keys each row sees
  std::vector<int32_t> pages_of_row;  // [n_rows] U
  std::vector<uint8_t> prefilled;     // [n_rows] attends to everything under every policy
  PageLists ranked;                   // by the last layer that ranked
  std::vector<float> score;           // [n_rows, score_pages()] of the layer that ranks; kept for its memory
  PageLists window;                   // of the layer at hand
  std::vector<int32_t> list_length;   // [n_rows] of the layer at hand
  at::Tensor hidden;                  // [n_rows, E] f32, normalised: what the output layer reads
  std::vector<KeptLists> kept = {};   // [n_layers] where lists serve several steps; otherwise empty
  std::vector<LayerReads> reads = {};  // [n_layers]

  const ModelInfo& info() const { return model.info(); }

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
  }

  at::Tensor embed() const {
    const at::Tensor ids =
        at::from_blob(const_cast<int32_t*>(rows.token.data()), {n_rows}, at::TensorOptions(at::kInt));
    return at::index_select(model.weights().embedding, 0, ids).to(at::kFloat);
  }

  at::Tensor copy_of(const float* rows_of_hidden) const {
    return at::from_blob(const_cast<float*>(rows_of_hidden), {n_rows, model.description().n_embd}, at::kFloat).clone();
  }

  // weight [out, in] in the compute dtype, x [n_rows, in] f32; [n_rows, out] f32.
  static at::Tensor linear(const at::Tensor& x, const at::Tensor& weight) {
    return at::linear(x.to(weight.scalar_type()), weight).to(at::kFloat);
  }

  // Rotates q in place and appends k and v to the cache.
  void append(int layer, at::Tensor& q, at::Tensor& k, at::Tensor& v) {
    kernels::append_kv::Params p;
    p.n_rows = n_rows;
    p.n_heads = info().n_heads;
    p.pairs = model.description().rope.pairs == model::RotaryPairs::interleaved
                  ? kernels::append_kv::RotaryPairs::interleaved
                  : kernels::append_kv::RotaryPairs::neox;
    p.rotary_dim = 2 * static_cast<int>(inverse_frequency.size());
    p.inverse_frequency = inverse_frequency.data();
    p.amplitude = model::rotary_amplitude(model.description());
    p.sequence = rows.sequence.data();
    p.position = rows.position.data();
    p.q = data(q);
    p.k = data(k);
    p.v = data(v);
    p.kv = cache.layer(layer);
    kernels::append_kv::cpu(p);
  }

  int score_pages() const { return *std::max_element(pages_of_row.begin(), pages_of_row.end()); }

  void score_pages_of(int layer, at::Tensor& q) {
    score.resize(size_t(n_rows) * score_pages());
    kernels::page_score::Params p;
    p.n_rows = n_rows;
    p.n_heads = info().n_heads;
    p.scale = scale();
    p.q = data(q);
    p.kv = cache.layer(layer);
    p.sequence = rows.sequence.data();
    p.length = length.data();
    p.page = kernel_page(policy.page_score);
    p.out_pages = score_pages();
    p.score = score.data();
    kernels::page_score::cpu(p);
  }

  // With K = L the list is the newest pages.
  static bool needs_score(const LayerPolicy& layer_policy) {
    return layer_policy.k_pages > layer_policy.l_pages;
  }

  // Scores every row's pages and ranks them (DELTA's Δ-layer).
  void rank(int layer, const LayerPolicy& layer_policy, at::Tensor& q) {
    kernels::select_pages::Params select;
    if (needs_score(layer_policy)) {
      score_pages_of(layer, q);
      select.score = score.data();
      select.score_stride = score_pages();
    }
    ranked.stride = layer_policy.k_pages;
    ranked.pages.resize(size_t(n_rows) * ranked.stride);
    select.n_rows = n_rows;
    select.k_pages = layer_policy.k_pages;
    select.l_pages = layer_policy.l_pages;
    select.position_bias = policy.position_bias;
    select.n_pages = pages_of_row.data();
    select.list = ranked.pages.data();
    kernels::select_pages::cpu(select);
  }

  // The list in force in each row. Where any row of the pass makes a list all are ranked: one sequence at a time, a
  // step that makes none ranks nothing. query [n_rows, H, d] before the rotary embedding, where the signal needs it.
  void make_lists(int layer, const LayerPolicy& layer_policy, at::Tensor& q, at::Tensor& query) {
    ranked.stride = layer_policy.k_pages;
    ranked.length.resize(n_rows);
    if (kept.empty()) {
      rank(layer, layer_policy, q);
      for (int r = 0; r < n_rows; ++r) ranked.length[r] = std::min(ranked.stride, pages_of_row[r]);
      return;
    }
    const float* queries = query.defined() ? data(query) : nullptr;
    ranked.pages.resize(size_t(n_rows) * ranked.stride);
    if (kept[layer].plan(rows, queries)) rank(layer, layer_policy, q);
    kept[layer].fill(rows, queries, ranked.pages, ranked.length);
  }

  // The newest k - 1 pages and the first one, for each row that sees more than k.
  void make_window(int k) {
    window.stride = k;
    window.pages.assign(size_t(n_rows) * k, -1);
    for (int r = 0; r < n_rows; ++r) {
      if (list_length[r] < 0) continue;
      int32_t* list = &window.pages[size_t(r) * k];
      for (int i = 0; i < k - 1; ++i) list[i] = pages_of_row[r] - 1 - i;
      list[k - 1] = 0;
    }
  }

  Attended attended_by(int layer, const LayerPolicy& layer_policy) {
    const bool ranks = layer_policy.attend == Attend::all_rank;
    if (layer_policy.attend == Attend::all || (ranks && kept.empty())) return {};
    list_length.resize(n_rows);
    const int k = layer_policy.k_pages;
    for (int r = 0; r < n_rows; ++r) {
      const bool all = prefilled[r] || k >= pages_of_row[r] || (ranks && kept[layer].makes_list(r));
      list_length[r] = all ? -1 : layer_policy.attend == Attend::window ? k : std::min(k, ranked.length[r]);
    }
    if (layer_policy.attend == Attend::window) make_window(k);
    const PageLists& lists = layer_policy.attend == Attend::window ? window : ranked;
    return {lists.pages.data(), list_length.data(), lists.stride};
  }

  void count(int layer, const LayerPolicy& layer_policy, const Attended& attended) {
    for (int r = 0; r < n_rows; ++r) {
      if (prefilled[r]) continue;
      const int t = rows.position[r], n_pages = attended.list_length ? attended.list_length[r] : -1;
      reads[layer].attended += n_pages < 0 ? t + 1 : (n_pages - 1LL) * page_size + t % page_size + 1;
      if (layer_policy.attend != Attend::all_rank || (!kept.empty() && !kept[layer].makes_list(r))) continue;
      ++reads[layer].lists;
      if (needs_score(layer_policy)) reads[layer].ranked += t + 1;
    }
  }

  float scale() const { return 1.0f / std::sqrt(static_cast<float>(info().head_dim)); }

  // [n_rows, H d]
  at::Tensor attend(int layer, at::Tensor& q, const Attended& attended) {
    at::Tensor out = at::empty_like(q);
    kernels::paged_attention::Params p;
    p.n_rows = n_rows;
    p.n_heads = info().n_heads;
    p.scale = scale();
    p.q = data(q);
    p.kv = cache.layer(layer);
    p.sequence = rows.sequence.data();
    p.length = length.data();
    p.list = attended.list;
    p.list_length = attended.list_length;
    p.list_stride = attended.stride;
    p.out = data(out);
    kernels::paged_attention::cpu(p);
    return out;
  }

  void notify(int layer, at::Tensor& x, at::Tensor& q, at::Tensor& query, const Attended& attended) {
    LayerView view;
    view.layer = layer;
    view.n_rows = n_rows;
    view.n_heads = info().n_heads;
    view.head_dim = info().head_dim;
    view.scale = scale();
    view.position = rows.position;
    view.sequence = rows.sequence;
    view.hidden = data(x);
    view.q = data(q);
    view.query = query.defined() ? data(query) : nullptr;
    view.kv = cache.layer(layer);
    view.list = attended.list;
    view.list_length = attended.list_length;
    view.list_stride = attended.stride;
    for (Observer* observer : observers) observer->layer(view);
  }

  // x [n_rows, E], in place.
  void attention_block(int layer, const model::LayerWeights& w, at::Tensor& x) {
    const int64_t q_size = int64_t(info().n_heads) * info().head_dim;
    const int64_t kv_size = int64_t(info().n_kv_heads) * info().head_dim;
    at::Tensor qkv = linear(rms_norm(x, w.attention_norm, model.description().rms_eps), w.qkv);
    if (w.qkv_bias.defined()) qkv.add_(w.qkv_bias);
    at::Tensor q = qkv.narrow(1, 0, q_size).contiguous();                  // [n_rows, H, d]
    at::Tensor k = qkv.narrow(1, q_size, kv_size).contiguous();            // [n_rows, G, d]
    at::Tensor v = qkv.narrow(1, q_size + kv_size, kv_size).contiguous();  // [n_rows, G, d]
    const LayerPolicy& layer_policy = policy.layers[layer];
    at::Tensor query;  // before the rotary embedding
    if ((policy.refresh && layer_policy.attend == Attend::all_rank) || observers_read_query)
      query = q.clone();
    append(layer, q, k, v);
    if (layer_policy.attend == Attend::all_rank) make_lists(layer, layer_policy, q, query);
    const Attended attended = attended_by(layer, layer_policy);
    const at::Tensor out = attend(layer, q, attended);
    count(layer, layer_policy, attended);
    notify(layer, x, q, query, attended);
    x.add_(linear(out, w.attention_out));
  }

  void feed_forward_block(const model::LayerWeights& w, at::Tensor& x) const {
    const at::Tensor normed = rms_norm(x, w.feed_norm, model.description().rms_eps).to(w.gate_up.scalar_type());
    const at::Tensor gate_up = at::linear(normed, w.gate_up);  // [n_rows, 2 F]
    const int64_t n_ff = gate_up.size(1) / 2;
    const at::Tensor activated = at::silu(gate_up.narrow(1, 0, n_ff)).mul_(gate_up.narrow(1, n_ff, n_ff));
    x.add_(at::linear(activated, w.down).to(at::kFloat));
  }
};

Decoder::Decoder(const model::Model& model, KvCache& cache, Policy policy, std::vector<Observer*> observers)
    : impl_(new Impl{model,
                     cache,
                     std::move(policy),
                     observers,
                     std::ranges::any_of(observers, [](const Observer* o) { return o->reads_query(); }),
                     model::inverse_frequencies(model.description()),
                     {},
                     0,
                     {},
                     {},
                     {},
                     {},
                     {},
                     {},
                     {},
                     {}}) {
  if (static_cast<int>(impl_->policy.layers.size()) != model.info().n_layers)
    throw bad_input("the schedule has {} layers, the model {} has {}", impl_->policy.layers.size(),
                    model.info().name, model.info().n_layers);
  impl_->reads.resize(impl_->policy.layers.size());
  if (impl_->policy.keeps_lists())
    for (const LayerPolicy& layer : impl_->policy.layers)
      impl_->kept.emplace_back(impl_->policy, layer, model.info().n_heads, model.info().head_dim);
}

Decoder::~Decoder() = default;

const Policy& Decoder::policy() const { return impl_->policy; }
std::span<const LayerReads> Decoder::reads() const { return impl_->reads; }

void Decoder::forward(const Rows& rows, int first_layer, const float* hidden) {
  const c10::InferenceMode inference;
  Impl& d = *impl_;
  d.take(rows);
  at::Tensor x = first_layer == 0 ? d.embed() : d.copy_of(hidden);  // [n_rows, E]
  for (int layer = first_layer; layer < d.info().n_layers; ++layer) {
    const model::LayerWeights& w = d.model.weights().layers[layer];
    d.attention_block(layer, w, x);
    d.feed_forward_block(w, x);
  }
  d.hidden = rms_norm(x, d.model.weights().output_norm, d.model.description().rms_eps);
}

Logits Decoder::logits(int first_row, int n_rows) {
  const c10::InferenceMode inference;
  Logits out;
  out.impl_->values = at::linear(impl_->hidden.narrow(0, first_row, n_rows), impl_->model.weights().output);
  return out;
}

}  // namespace deltacal::decode
