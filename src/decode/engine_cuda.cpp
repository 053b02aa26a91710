#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "decode/device_model.h"
#include "decode/engine.h"
#include "kernels/append_kv/cuda.h"
#include "kernels/page_score/cuda.h"
#include "kernels/paged_attention/cuda.h"
#include "kernels/record_scores/cuda.h"
#include "kernels/record_values/cuda.h"
#include "kernels/select_pages/cuda.h"

namespace deltacal::decode {
namespace {

namespace gpu = kernels::cuda;
using Rows = std::span<const int32_t>;

constexpr int rows_of_prefill = 64;  // of one sequence, from which on they are attended together
constexpr size_t logit_bytes_most = size_t{1} << 29;  // of a Δ-layer's logits at one time

at::TensorOptions on_device(at::ScalarType type) {
  return at::TensorOptions(type).device(at::kCUDA);
}
at::Tensor upload(Rows numbers) {
  return at::from_blob(const_cast<int32_t*>(numbers.data()), {std::ssize(numbers)}, at::kInt).to(at::kCUDA);
}
const int32_t* ints(const at::Tensor& t) {
  return t.const_data_ptr<int32_t>();
}
float* floats(at::Tensor& t) {
  return t.mutable_data_ptr<float>();
}
int32_t longest(Rows length) {
  return *std::ranges::max_element(length);
}

// Rows in the device's memory, as kernels take them.
struct DeviceRows {
  int n = 0;
  at::Tensor length, sequence;  // [n] int32
};

class CudaEngine : public Engine {
 public:
  CudaEngine(const model::Model& model, KvCache& cache, const Policy& policy)
      : model_(model), cache_(cache), page_(policy.page_score), position_bias_(policy.position_bias) {
    check_kernels_for(info());
    inverse_frequency_ = frequencies_on_device(model.description());
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
    together_ = is_one_sequence(rows);
    whole_ = {-1, {}};
    prefix_ = {-1, {}, {}};
  }

  at::Tensor append(int layer, const at::Tensor& of_any_type) override {
    const at::Tensor qkv = of_any_type.to(at::kBFloat16);
    at::Tensor q = at::empty({of_pass_.n, int64_t(info().n_heads) * info().head_dim}, qkv.options());
    gpu::append_kv::Params p = append_params(model_.description(), inverse_frequency_, of_pass_.n, qkv, q);
    p.sequence = ints(of_pass_.sequence);
    p.position = ints(position_);
    p.kv = pages_of(layer);
    gpu::append_kv::run(p, {});
    return q;
  }

  // Attention to all pages keeps the logits, from which the scores come: attend() finds its output.
  at::Tensor rank(int layer, const LayerPolicy& policy, const at::Tensor& q) override {
    if (!any_needs_list_) return at::full({of_pass_.n, policy.k_pages}, -1, on_device(at::kInt));
    at::Tensor pages = at::empty({of_pass_.n, policy.k_pages}, on_device(at::kInt));
    if (policy.k_pages == policy.l_pages) {  // the list needs no score
      select(policy, of_pass_.n, ints(needed_length_), nullptr, 1, pages.mutable_data_ptr<int32_t>());
      return pages;
    }
    const int n_pages = pages_for(longest(rows_.length));
    if (together_) {
      const auto [out, lse] = prefill(layer, q);
      at::Tensor score = at::empty({of_pass_.n, n_pages}, on_device(at::kFloat));
      gpu::record_scores::Params p;
      p.n_rows = of_pass_.n;
      p.n_heads = info().n_heads;
      p.n_kv_heads = info().n_kv_heads;
      p.head_dim = info().head_dim;
      p.n_keys = longest(rows_.length);
      p.scale = scale();
      p.q = q.const_data_ptr();
      p.keys = prefix_.keys.const_data_ptr();
      p.key_token_stride = int64_t(info().n_kv_heads) * info().head_dim;
      p.key_head_stride = info().head_dim;
      p.lse = lse.const_data_ptr<float>();
      p.position = ints(position_);
      p.page = kernel_page(page_);
      p.out_pages = n_pages;
      p.score = floats(score);
      gpu::record_scores::run(p, {});
      select(policy, of_pass_.n, ints(needed_length_), score.const_data_ptr<float>(), n_pages,
             pages.mutable_data_ptr<int32_t>());
      whole_ = {layer, out};
      return pages;
    }
    at::Tensor out = at::empty_like(q);
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
      if (together_) return prefill(layer, q).out;
      at::Tensor out = at::empty_like(q);
      attend_to_all(layer, q, of_pass_, 0, of_pass_.n, out, nullptr);
      return out;
    }
    // Rows that attend to all have their outputs already where the layer ranked, and get those of a layer
    // that attends to everything in a prefill.
    std::vector<int32_t> length(rows_.length.begin(), rows_.length.end());
    const bool any_whole = std::ranges::any_of(lists.length, [](int32_t n) { return n < 0; });
    if (any_whole && together_ && whole_.layer != layer) whole_ = {layer, prefill(layer, q).out};
    const bool known = any_whole && whole_.layer == layer;
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
               of_groups = made({group_mass ? rows.n : 0, info().n_kv_heads, n_pages}),
               unused = at::empty_like(q);
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

  void value(int layer, const ValueRows& rows) override {
    const int n = static_cast<int>(rows.length.size());
    const int64_t row_size = int64_t(info().n_heads) * info().head_dim;
    page_table_ = upload(cache_.page_table());
    std::vector<int32_t> sequence(rows.length.size(), 0), position;
    for (const int32_t length : rows.length) position.push_back(length - 1);
    const DeviceRows of{n, upload(rows.length), upload(sequence)};
    const at::Tensor at_positions = upload(position);
    const auto host = [](const float* numbers, at::IntArrayRef shape) {
      return at::from_blob(const_cast<float*>(numbers), shape, at::TensorOptions(at::kFloat));
    };
    const at::Tensor q = host(rows.q, {n, row_size}).to(at::kCUDA, at::kBFloat16);
    const at::Tensor gradient = host(rows.gradient, {rows.n_gradients, n, row_size}).to(at::kCUDA);
    at::Tensor out = at::empty_like(q), lse = at::empty({n, info().n_heads}, on_device(at::kFloat)),
               mass = at::empty({n, info().n_heads, rows.out_pages}, on_device(at::kFloat)),
               value =
                   at::empty({rows.n_gradients, n, info().n_heads, rows.out_pages}, on_device(at::kFloat));
    gpu::paged_attention::Params attended = attention(layer, q, of, 0, n, out);
    attended.lse = floats(lse);
    gpu::paged_attention::run(attended, {});

    gpu::record_values::Params p;
    p.n_rows = n;
    p.n_heads = info().n_heads;
    p.n_kv_heads = info().n_kv_heads;
    p.head_dim = info().head_dim;
    p.n_gradients = rows.n_gradients;
    p.n_keys = longest(rows.length);
    p.scale = scale();
    const at::Tensor keys = contiguous(cache_.keys(layer), 0, p.n_keys),
                     values = contiguous(cache_.values(layer), 0, p.n_keys);
    p.q = q.const_data_ptr();
    p.gradient = gradient.const_data_ptr<float>();
    p.keys = keys.const_data_ptr();
    p.values = values.const_data_ptr();
    p.token_stride = int64_t(info().n_kv_heads) * info().head_dim;
    p.head_stride = info().head_dim;
    p.lse = lse.const_data_ptr<float>();
    p.position = ints(at_positions);
    p.out_pages = rows.out_pages;
    p.mass = floats(mass);
    p.value = floats(value);
    gpu::record_values::run(p, {});
    host(rows.mass, mass.sizes()).copy_(mass);
    host(rows.value, value.sizes()).copy_(value);
  }

 private:
  float scale() const { return attention_scale(info()); }

  static bool is_one_sequence(const PassRows& rows) {
    return std::ssize(rows.sequence) >= rows_of_prefill &&
           std::ranges::all_of(rows.sequence, [&](int32_t s) { return s == rows.sequence[0]; });
  }

  // Keys or values 0..n_keys-1 of a sequence out of their pages, [n_keys, G, d].
  at::Tensor contiguous(void* pool, int sequence, int n_keys) const {
    const int64_t n_pages = pages_for(n_keys), G = info().n_kv_heads, d = info().head_dim,
                  chunks = d / gpu::chunk_elements;
    const at::Tensor all = at::for_blob(pool, {cache_.n_pages(), G, page_size, chunks, gpu::chunk_elements})
                               .options(on_device(at::kBFloat16))
                               .target_device(page_table_.device())
                               .make_tensor();
    const at::Tensor pages = all.index_select(0, page_table_.narrow(0, int64_t(sequence) * cache_.max_pages(),
                                                                    n_pages));  // [n_pages, G, 16, chunks, 8]
    std::vector<int64_t> place;                                                 // of each chunk, [16, chunks]
    for (int token = 0; token < page_size; ++token)
      for (int chunk = 0; chunk < chunks; ++chunk) place.push_back(chunk ^ gpu::swizzle(int(d), token));
    const at::Tensor at =
        at::from_blob(place.data(), {1, 1, page_size, chunks, 1}, at::kLong).to(pages.device());
    return pages.gather(3, at.expand(pages.sizes()))
        .permute({0, 2, 1, 3, 4})
        .reshape({n_pages * page_size, G, d})
        .narrow(0, 0, n_keys);
  }

  struct Prefilled {
    at::Tensor out;  // [n_rows, H d]
    at::Tensor lse;  // [n_rows, H] natural log
  };
  // Attention of a pass's rows, consecutive positions of one sequence, to all keys they see, by LibTorch's
  // kernel for prefill: it reads a key once for many rows.
  Prefilled prefill(int layer, const at::Tensor& q) {
    const int n_keys = longest(rows_.length), sequence = rows_.sequence[0];
    const int64_t H = info().n_heads, d = info().head_dim;
    prefix_ = {layer, contiguous(cache_.keys(layer), sequence, n_keys),
               contiguous(cache_.values(layer), sequence, n_keys)};
    const auto as_heads = [](const at::Tensor& rows) {
      return rows.unsqueeze(0).transpose(1, 2);
    };  // [1, heads, n, d]
    // Causal from the last key back: row r sees the first n_keys - n_rows + r + 1.
    const auto done = at::_scaled_dot_product_flash_attention(
        as_heads(q.view({of_pass_.n, H, d})), as_heads(prefix_.keys), as_heads(prefix_.values), 0.0,
        /*is_causal=*/true, false, double(scale()));
    return {std::get<0>(done).squeeze(0).transpose(0, 1).reshape({of_pass_.n, H * d}),
            std::get<1>(done).squeeze(0).transpose(0, 1).contiguous()};
  }

  // What attention keeps of n rows for their scores.
  struct Logits {
    at::Tensor records, lse2;
    gpu::PageLogits at;
    Logits(const CudaEngine& engine, int n, int n_pages) {
      const ModelInfo& m = engine.info();
      records =
          at::empty({int64_t(gpu::records_bytes(n, m.n_heads, m.n_kv_heads, n_pages))}, on_device(at::kByte));
      lse2 = at::empty({n, m.n_heads}, on_device(at::kFloat));
      at = {n_pages, records.mutable_data_ptr(), floats(lse2)};
    }
  };

  const ModelInfo& info() const { return model_.info(); }

  static const void* elements(const at::Tensor& t, int64_t first) {
    return static_cast<const char*>(t.const_data_ptr()) + first * t.element_size();
  }

  gpu::PagedKv pages_of(int layer) const {
    return decode::pages_of(cache_, info(), layer, ints(page_table_));
  }

  // So many rows at a time that their logits have room.
  template <class F>
  void for_blocks(int n_rows, int n_pages, const F& f) const {
    const size_t row = gpu::records_bytes(1, info().n_heads, info().n_kv_heads, n_pages);
    const int most = static_cast<int>(std::max<size_t>(1, logit_bytes_most / row));
    for (int first = 0; first < n_rows; first += most) f(first, std::min(most, n_rows - first));
  }

  // Rows first.. of `rows`, their queries and outputs; attention to all.
  gpu::paged_attention::Params attention(int layer, const at::Tensor& q, const DeviceRows& rows, int first,
                                         int n, at::Tensor& out) {
    const int64_t row_size = int64_t(info().n_heads) * info().head_dim;
    gpu::paged_attention::Params p;
    p.n_rows = n;
    p.n_heads = info().n_heads;
    p.scale = scale();
    p.q = elements(q, first * row_size);
    p.kv = pages_of(layer);
    p.sequence = ints(rows.sequence) + first;
    p.length = ints(rows.length) + first;
    p.out = const_cast<void*>(elements(out, first * row_size));
    p.workspace = workspace(n, p.kv);
    return p;
  }

  void attend_to_all(int layer, const at::Tensor& q, const DeviceRows& rows, int first, int n,
                     at::Tensor& out, const Logits* logits) {
    gpu::paged_attention::Params p = attention(layer, q, rows, first, n, out);
    if (logits) p.logits = logits->at;
    gpu::paged_attention::run(p, {});
  }

  gpu::page_score::Params scores_of(const Logits& logits, int n, const int32_t* length,
                                    PageScore page) const {
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
    const auto bytes =
        static_cast<int64_t>(gpu::paged_attention::workspace_bytes(n_rows, info().n_heads, kv));
    if (!workspace_.defined() || workspace_.numel() < bytes)
      workspace_ = at::zeros({bytes}, on_device(at::kByte));
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
  at::Tensor page_table_;  // [n_sequences, max_pages]
  at::Tensor workspace_;   // bytes
  Whole whole_{-1, {}};    // by the layer that ranked last
  struct Prefix {
    int layer;
    at::Tensor keys, values;  // [n_keys, G, d] of the pass's sequence
  };
  Prefix prefix_{-1, {}, {}};
  bool together_ = false;  // the rows are those of a prefill
};

}  // namespace

std::string why_not_on_cuda(const ModelInfo& model) {
  if (!gpu::has_head_dim(model.head_dim))
    return fmt::format("{}: head dimension {} has no kernel (64, 96, 128 and 256 have)", model.name,
                       model.head_dim);
  return gpu::why_no_kernels();
}

std::unique_ptr<Engine> cuda_engine(const model::Model& model, KvCache& cache, const Policy& policy) {
  return std::make_unique<CudaEngine>(model, cache, policy);
}

}  // namespace deltacal::decode
