#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "decode/engine.h"
#include "kernels/append_kv/cuda.h"
#include "kernels/page_score/cuda.h"
#include "kernels/paged_attention/cuda.h"
#include "kernels/select_pages/cuda.h"

namespace deltacal::decode {
namespace {

namespace gpu = kernels::cuda;
using Rows = std::span<const int32_t>;

constexpr size_t logit_bytes_most = size_t{1} << 29;  // of a Δ-layer's logits at one time

at::TensorOptions on_device(at::ScalarType type) { return at::TensorOptions(type).device(at::kCUDA); }
at::Tensor upload(Rows numbers) {
  return at::from_blob(const_cast<int32_t*>(numbers.data()), {std::ssize(numbers)}, at::kInt).to(at::kCUDA);
}
const int32_t* ints(const at::Tensor& t) { return t.const_data_ptr<int32_t>(); }
float* floats(at::Tensor& t) { return t.mutable_data_ptr<float>(); }
int32_t longest(Rows length) { return *std::ranges::max_element(length); }

// Rows in the device's memory, as kernels take them.
struct DeviceRows {
  int n = 0;
  at::Tensor length, sequence;  // [n] int32
};

class CudaEngine : public Engine {
 public:
  CudaEngine(const model::Model& model, KvCache& cache, const Policy& policy)
      : model_(model), cache_(cache), page_(policy.score.page), position_bias_(policy.position_bias) {
    gpu::current_device();  // throws for one without kernels
    if (!gpu::has_head_dim(info().head_dim))
      throw bad_input("{}: head dimension {} has no CUDA kernel (64, 96, 128 and 256 have): use --device cpu",
                      info().name, info().head_dim);
    const std::vector<float> frequency = model::inverse_frequencies(model.description());
    inverse_frequency_ = at::from_blob(const_cast<float*>(frequency.data()), {std::ssize(frequency)}, at::kFloat)
                             .to(at::kCUDA);
  }

  void begin(const PassRows& rows) override {
    rows_ = rows;
    position_ = upload(rows.position);
    of_pass_ = {static_cast<int>(rows.position.size()), upload(rows.length), upload(rows.sequence)};
    std::vector<int32_t> needed(rows.length.begin(), rows.length.end());
    for (size_t r = 0; r < needed.size(); ++r)
      if (rows.prefilled[r]) needed[r] = 0;
    any_needs_list_ = std::ranges::any_of(needed, [](int32_t n) { return n > 0; });
    needed_length_ = upload(needed);
    page_table_ = upload(cache_.page_table());
    whole_ = {-1, {}};
  }

  at::Tensor append(int layer, const at::Tensor& of_any_type) override {
    const at::Tensor qkv = of_any_type.to(at::kBFloat16);
    const int64_t q_size = int64_t(info().n_heads) * info().head_dim;
    const int64_t kv_size = int64_t(info().n_kv_heads) * info().head_dim;
    at::Tensor q = at::empty({of_pass_.n, q_size}, qkv.options());
    gpu::append_kv::Params p;
    p.n_rows = of_pass_.n;
    p.n_heads = info().n_heads;
    p.pairs = model_.description().rope.pairs == model::RotaryPairs::interleaved
                  ? gpu::append_kv::RotaryPairs::interleaved
                  : gpu::append_kv::RotaryPairs::neox;
    p.rotary_dim = 2 * static_cast<int>(inverse_frequency_.size(0));
    p.inverse_frequency = inverse_frequency_.const_data_ptr<float>();
    p.amplitude = model::rotary_amplitude(model_.description());
    p.sequence = ints(of_pass_.sequence);
    p.position = ints(position_);
    p.q = elements(qkv, 0);
    p.k = elements(qkv, q_size);
    p.v = elements(qkv, q_size + kv_size);
    p.q_out = q.mutable_data_ptr();
    p.q_stride = p.k_stride = p.v_stride = q_size + 2 * kv_size;
    p.kv = pages_of(layer);
    gpu::append_kv::run(p, {});
    return q;
  }

  // Attention to all pages keeps the logits, from which the scores come: attend() finds its output.
  at::Tensor rank(int layer, const LayerPolicy& policy, const at::Tensor& q) override {
    at::Tensor pages = at::empty({of_pass_.n, policy.k_pages}, on_device(at::kInt));
    if (!any_needs_list_) return pages;
    if (policy.k_pages == policy.l_pages) {  // the list needs no score
      select(policy, of_pass_.n, ints(needed_length_), nullptr, 1, pages.mutable_data_ptr<int32_t>());
      return pages;
    }
    at::Tensor out = at::empty_like(q);
    const int n_pages = pages_for(longest(rows_.length));
    for_blocks(of_pass_.n, n_pages, [&](int first, int n) {
      const Logits logits(*this, n, n_pages);
      attend_to_all(layer, q, of_pass_, first, n, out, &logits);
      at::Tensor score = at::empty({n, n_pages}, on_device(at::kFloat));
      gpu::page_score::Params p = scores_of(logits, n, ints(needed_length_) + first, page_);
      p.out_pages = n_pages;
      p.score = floats(score);
      gpu::page_score::run(p, {});
      select(policy, n, ints(needed_length_) + first, score.const_data_ptr<float>(), n_pages,
             pages.mutable_data_ptr<int32_t>() + size_t(first) * size_t(policy.k_pages));
    });
    whole_ = {layer, out};
    return pages;
  }

  at::Tensor attend(int layer, const at::Tensor& q, const Lists& lists) override {
    if (lists.all()) {
      if (whole_.layer == layer) return whole_.out;
      at::Tensor out = at::empty_like(q);
      attend_to_all(layer, q, of_pass_, 0, of_pass_.n, out, nullptr);
      return out;
    }
    // Rows that attend to all have their outputs already where the layer ranked.
    std::vector<int32_t> length(rows_.length.begin(), rows_.length.end());
    const bool known = whole_.layer == layer;
    for (size_t r = 0; r < length.size(); ++r)
      if (known && lists.length[r] < 0) length[r] = 0;
    at::Tensor out = known ? whole_.out : at::empty_like(q);
    const at::Tensor of_rows = upload(length), of_lists = upload(lists.length);
    gpu::paged_attention::Params p = attention(layer, q, of_pass_, 0, of_pass_.n, out);
    p.length = ints(of_rows);
    p.list = ints(lists.pages);
    p.list_stride = static_cast<int>(lists.pages.size(1));
    p.list_length = ints(of_lists);
    gpu::paged_attention::run(p, {});
    return out;
  }

  void score(int layer, const at::Tensor& q, Rows length, Rows sequence, bool group_mass, PageScore page,
             ScoredRows& out) override {
    const DeviceRows rows{static_cast<int>(length.size()), upload(length), upload(sequence)};
    const int n_pages = pages_for(longest(length));
    const auto made = [](std::vector<int64_t> shape) { return at::empty(shape, on_device(at::kFloat)); };
    at::Tensor score = made({rows.n, n_pages}), mass = made({rows.n, n_pages}),
               of_groups = made({group_mass ? rows.n : 0, info().n_kv_heads, n_pages}), unused = at::empty_like(q);
    for_blocks(rows.n, n_pages, [&](int first, int n) {
      const Logits logits(*this, n, n_pages);
      attend_to_all(layer, q, rows, first, n, unused, &logits);
      gpu::page_score::Params p = scores_of(logits, n, ints(rows.length) + first, page);
      p.out_pages = n_pages;
      p.score = floats(score) + size_t(first) * size_t(n_pages);
      p.mass = floats(mass) + size_t(first) * size_t(n_pages);
      if (group_mass) p.group_mass = floats(of_groups) + size_t(first) * size_t(info().n_kv_heads * n_pages);
      gpu::page_score::run(p, {});
    });
    const auto read = [](const at::Tensor& t, std::vector<float>& to) {
      const at::Tensor host = t.cpu();
      to.assign(host.const_data_ptr<float>(), host.const_data_ptr<float>() + host.numel());
    };
    out.n_pages = n_pages;
    read(score, out.score);
    read(mass, out.mass);
    read(of_groups, out.group_mass);
  }

 private:
  // What attention keeps of n rows for their scores.
  struct Logits {
    at::Tensor relative, maximum, lse2;
    gpu::PageLogits at;
    Logits(const CudaEngine& engine, int n, int n_pages) {
      const int64_t groups = engine.info().n_kv_heads, group = engine.info().n_heads / engine.info().n_kv_heads;
      relative = at::empty({n, groups, n_pages, group, page_size}, on_device(at::kHalf));
      maximum = at::empty({n, groups, n_pages, group}, on_device(at::kFloat));
      lse2 = at::empty({n, groups * group}, on_device(at::kFloat));
      at = {n_pages, relative.mutable_data_ptr(), floats(maximum), floats(lse2)};
    }
  };

  const ModelInfo& info() const { return model_.info(); }

  static const void* elements(const at::Tensor& t, int64_t first) {
    return static_cast<const char*>(t.const_data_ptr()) + first * t.element_size();
  }

  gpu::PagedKv pages_of(int layer) const {
    gpu::PagedKv kv;
    kv.type = gpu::Type::bf16;
    kv.n_kv_heads = info().n_kv_heads;
    kv.head_dim = info().head_dim;
    kv.n_pages = cache_.n_pages();
    kv.keys = cache_.keys(layer);
    kv.values = cache_.values(layer);
    kv.page_table = ints(page_table_);
    kv.max_pages = cache_.max_pages();
    return kv;
  }

  // So many rows at a time that their logits have room.
  template <class F>
  void for_blocks(int n_rows, int n_pages, const F& f) const {
    const size_t row = size_t(info().n_heads) * size_t(n_pages) * (2 * page_size + 4);
    const int most = static_cast<int>(std::max<size_t>(1, logit_bytes_most / row));
    for (int first = 0; first < n_rows; first += most) f(first, std::min(most, n_rows - first));
  }

  // Rows first.. of `rows`, their queries and outputs; attention to all.
  gpu::paged_attention::Params attention(int layer, const at::Tensor& q, const DeviceRows& rows, int first, int n,
                                         at::Tensor& out) {
    const int64_t row_size = int64_t(info().n_heads) * info().head_dim;
    gpu::paged_attention::Params p;
    p.n_rows = n;
    p.n_heads = info().n_heads;
    p.scale = 1.0f / std::sqrt(static_cast<float>(info().head_dim));
    p.q = elements(q, first * row_size);
    p.kv = pages_of(layer);
    p.sequence = ints(rows.sequence) + first;
    p.length = ints(rows.length) + first;
    p.out = const_cast<void*>(elements(out, first * row_size));
    p.workspace = workspace(n, p.kv);
    return p;
  }

  void attend_to_all(int layer, const at::Tensor& q, const DeviceRows& rows, int first, int n, at::Tensor& out,
                     const Logits* logits) {
    gpu::paged_attention::Params p = attention(layer, q, rows, first, n, out);
    if (logits) p.logits = logits->at;
    gpu::paged_attention::run(p, {});
  }

  gpu::page_score::Params scores_of(const Logits& logits, int n, const int32_t* length, PageScore page) const {
    gpu::page_score::Params p;
    p.n_rows = n;
    p.n_heads = info().n_heads;
    p.n_kv_heads = info().n_kv_heads;
    p.logits = logits.at;
    p.length = length;
    p.page = kernel_page(page);
    return p;
  }

  void select(const LayerPolicy& policy, int n, const int32_t* length, const float* score, int score_stride,
              int32_t* list) const {
    gpu::select_pages::Params p;
    p.n_rows = n;
    p.k_pages = policy.k_pages;
    p.l_pages = policy.l_pages;
    p.position_bias = position_bias_;
    p.score = score;
    p.score_stride = score_stride;
    p.length = length;
    p.list = list;
    gpu::select_pages::run(p, {});
  }

  // Zero when it is made; every call leaves it so.
  void* workspace(int n_rows, const gpu::PagedKv& kv) {
    const auto bytes = static_cast<int64_t>(gpu::paged_attention::workspace_bytes(n_rows, info().n_heads, kv));
    if (!workspace_.defined() || workspace_.numel() < bytes) workspace_ = at::zeros({bytes}, on_device(at::kByte));
    return workspace_.mutable_data_ptr();
  }

  struct Whole {
    int layer;
    at::Tensor out;  // [n_rows, H d] of attention to all
  };

  const model::Model& model_;
  KvCache& cache_;
  PageScore page_;
  double position_bias_;
  at::Tensor inverse_frequency_;  // [rotary_dim / 2]
  PassRows rows_;
  DeviceRows of_pass_;
  at::Tensor position_;       // [n_rows]
  at::Tensor needed_length_;  // [n_rows] 0 where the row needs no list
  bool any_needs_list_ = false;
  at::Tensor page_table_;     // [n_sequences, max_pages]
  at::Tensor workspace_;      // bytes
  Whole whole_{-1, {}};  // by the layer that ranked last
};

}  // namespace

std::unique_ptr<Engine> cuda_engine(const model::Model& model, KvCache& cache, const Policy& policy) {
  return std::make_unique<CudaEngine>(model, cache, policy);
}

}  // namespace deltacal::decode
