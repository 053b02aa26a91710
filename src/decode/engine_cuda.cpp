#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "decode/device_info.h"
#include "decode/device_model.h"
#include "decode/engine.h"
#include "decode/prefill_attention.h"
#include "decode/step_memory.h"
#include "kernels/append_kv/cuda.h"
#include "kernels/cuda/graph.h"
#include "kernels/page_score/cuda.h"
#include "kernels/paged_attention/cuda.h"
#include "kernels/record_scores/cuda.h"
#include "kernels/record_values/cuda.h"
#include "kernels/select_pages/cuda.h"
#include "kernels/token_nll/cuda.h"

namespace deltacal::decode {
namespace {

namespace gpu = kernels::cuda;
using Rows = std::span<const int32_t>;

constexpr size_t logit_bytes_most = size_t{1} << 29;  // of a Δ-layer's logits at one time

at::TensorOptions on_device(at::ScalarType type) {
  return at::TensorOptions(type).device(at::kCUDA);
}
// By way of page-locked memory, which LibTorch keeps until it is copied: the host does not wait for the
// device.
at::Tensor upload(Rows numbers) {
  at::Tensor host = at::empty({std::ssize(numbers)}, at::TensorOptions(at::kInt).pinned_memory(true));
  std::ranges::copy(numbers, host.mutable_data_ptr<int32_t>());
  return at::empty(host.sizes(), on_device(at::kInt)).copy_(host, /*non_blocking=*/true);
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
    end();
  }

  void end() override {
    whole_ = {};
    prefix_ = {};
  }

  at::Tensor add_and_norm(at::Tensor& x, const at::Tensor& added, const at::Tensor& weight) override {
    return decode::add_and_norm(model_.description(), x, added, weight);
  }

  at::Tensor gate(const at::Tensor& gate_up) override { return decode::gate(gate_up); }

  at::Tensor append(int layer, at::Tensor qkv, const at::Tensor& bias) override {
    at::Tensor q = at::empty({of_pass_.n, int64_t(info().n_heads) * info().head_dim}, qkv.options());
    gpu::append_kv::Params p = append_params(model_.description(), inverse_frequency_, of_pass_.n, qkv, q);
    p.sequence = ints(of_pass_.sequence);
    p.position = ints(position_);
    if (bias.defined()) p.bias = bias.const_data_ptr<float>();
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
      prefill(layer, q);
      at::Tensor score = at::empty({of_pass_.n, n_pages}, on_device(at::kFloat));
      gpu::record_scores::Params p = recording(q, whole_.lse, position_, page_, n_pages);
      p.score = floats(score);
      gpu::record_scores::run(p, {});
      select(policy, of_pass_.n, ints(needed_length_), score.const_data_ptr<float>(), n_pages,
             pages.mutable_data_ptr<int32_t>());
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
    whole_ = {layer, out, {}};
    return pages;
  }

  at::Tensor attend(int layer, const at::Tensor& q, const Lists& lists) override {
    if (lists.all()) {
      if (whole_.layer == layer) return whole_.out;
      if (together_) return prefill(layer, q);
      at::Tensor out = at::empty_like(q);
      attend_to_all(layer, q, of_pass_, 0, of_pass_.n, out, nullptr);
      return out;
    }
    // Rows that attend to all have their outputs already where the layer ranked, and get those of a layer
    // that attends to everything in a prefill.
    std::vector<int32_t> length(rows_.length.begin(), rows_.length.end());
    const bool any_whole = std::ranges::any_of(lists.length, [](int32_t n) { return n < 0; });
    if (any_whole && together_ && whole_.layer != layer) prefill(layer, q);
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

  at::Tensor log_sum_exp(int layer) const override {
    return whole_.layer == layer ? whole_.lse : at::Tensor();
  }

  // Rows of a prefill are scored from its log-sum-exp and the keys at hand; others attend once more.
  TakeScores score(int layer, const ScoreRows& rows) override {
    const int64_t n = std::ssize(rows.length), n_pages = pages_for(longest(rows.length));
    const auto made = [](std::vector<int64_t> shape) { return at::empty(shape, on_device(at::kFloat)); };
    at::Tensor score = made({n, n_pages}), mass = made({n, n_pages}),
               of_groups = made({rows.group_mass ? n : 0, info().n_kv_heads, n_pages});
    const bool of_pass = !rows.of_pass.empty();
    const at::Tensor index = of_pass ? upload(rows.of_pass) : at::Tensor(),
                     q = of_pass ? rows.q.index_select(0, index) : rows.q;
    if (of_pass && whole_.layer == layer && whole_.lse.defined())
      score_of_prefill(rows, q, index, score, mass, of_groups);
    else
      score_by_attention(layer, rows, q, score, mass, of_groups);
    return taken(static_cast<int>(n_pages), {score, mass, of_groups});
  }

  TakeRows take_rows(const at::Tensor& all, std::span<const int> rows) override {
    const at::Tensor chosen = all.index_select(0, upload(Rows(rows.data(), rows.size()))).to(at::kFloat);
    const at::Tensor host = begin_copy_to_host(chosen);
    auto copied = std::make_shared<gpu::Event>();
    copied->record(nullptr);
    return [host, copied] {
      copied->wait();
      const float* numbers = host.const_data_ptr<float>();
      return std::vector<float>(numbers, numbers + host.numel());
    };
  }

  WaitForValues value(int layer, const ValueRows& rows) override {
    const int n_rows = static_cast<int>(rows.length.size()), n_keys = longest(rows.length);
    page_table_ = upload(cache_.page_table());
    const Prefix prefix = prefix_of(layer, 0, n_keys);
    const int most = value_rows_at_once(info(), rows.n_gradients, rows.out_pages);
    if (!values_) values_ = std::make_unique<ValuesOnTheirWay>();
    for (int first = 0; first < n_rows; first += most)
      value_of_block(layer, rows, prefix, n_keys, first, std::min(most, n_rows - first));
    auto copied = std::make_shared<gpu::Event>();
    copied->record(values_->stream.get());
    return [copied] { copied->wait(); };
  }

  at::Tensor nll(const at::Tensor& logits, Rows target) override {
    const at::Tensor of_rows = upload(target);
    at::Tensor out = at::empty({std::ssize(target)}, on_device(at::kFloat));
    gpu::token_nll::Params p;
    p.n_rows = static_cast<int>(logits.size(0));
    p.n = static_cast<int>(logits.size(1));
    p.logits = logits.const_data_ptr<float>();
    p.target = ints(of_rows);
    p.nll = floats(out);
    gpu::token_nll::run(p, {});
    return out;
  }

 private:
  float scale() const { return attention_scale(info()); }

  static bool is_one_sequence(const PassRows& rows) {
    return std::ssize(rows.sequence) >= rows_of_prefill &&
           std::ranges::all_of(rows.sequence, [&](int32_t s) { return s == rows.sequence[0]; });
  }

  // Attention to all of the layer that had it last.
  struct Whole {
    int layer = -1;
    at::Tensor out;  // [n_rows, H d]
    at::Tensor lse;  // [n_rows, H] natural log; undefined but of a prefill
  };

  Prefix prefix_of(int layer, int sequence, int n_keys) const {
    return decode::prefix_of(pages_of(layer), sequence, n_keys, n_keys);
  }

  // Attention of a pass's rows, consecutive positions of one sequence, to all keys they see, by kernels that
  // read a key once for many rows. [n_rows, H d]; whole_ keeps what it found.
  at::Tensor prefill(int layer, const at::Tensor& q) {
    end();  // two prefixes would be one too many
    prefix_ = prefix_of(layer, rows_.sequence[0], longest(rows_.length));
    const AttendedRows found =
        attend_prefix(q.view({of_pass_.n, info().n_heads, info().head_dim}), prefix_, scale());
    whole_ = {layer, found.out, found.log_sum_exp};
    return whole_.out;
  }

  // Scores of some rows from a prefill's keys, prefix_. q [n, H d], lse [n, H], position [n].
  gpu::record_scores::Params recording(const at::Tensor& q, const at::Tensor& lse, const at::Tensor& position,
                                       PageScore page, int64_t out_pages) const {
    gpu::record_scores::Params p;
    p.n_rows = static_cast<int>(q.size(0));
    p.n_heads = info().n_heads;
    p.n_kv_heads = info().n_kv_heads;
    p.head_dim = info().head_dim;
    p.n_keys = static_cast<int>(prefix_.keys.size(0));
    p.scale = scale();
    p.q = q.const_data_ptr();
    p.keys = prefix_.keys.const_data_ptr();
    p.key_token_stride = int64_t(info().n_kv_heads) * info().head_dim;
    p.key_head_stride = info().head_dim;
    p.lse = lse.const_data_ptr<float>();
    p.position = ints(position);
    p.page = kernel_page(page);
    p.out_pages = static_cast<int>(out_pages);
    return p;
  }

  // q [n, H d], index [n] their places in the pass.
  void score_of_prefill(const ScoreRows& rows, const at::Tensor& q, const at::Tensor& index,
                        at::Tensor& score, at::Tensor& mass, at::Tensor& of_groups) {
    const at::Tensor lse = whole_.lse.index_select(0, index), position = position_.index_select(0, index);
    gpu::record_scores::Params p = recording(q, lse, position, rows.page, score.size(1));
    p.n_keys = longest(rows.length);
    p.score = floats(score);
    p.mass = floats(mass);
    if (rows.group_mass) p.group_mass = floats(of_groups);
    gpu::record_scores::run(p, {});
  }

  // q [n, H d]
  void score_by_attention(int layer, const ScoreRows& of, const at::Tensor& q, at::Tensor& score,
                          at::Tensor& mass, at::Tensor& of_groups) {
    const DeviceRows rows{static_cast<int>(of.length.size()), upload(of.length), upload(of.sequence)};
    const int n_pages = static_cast<int>(score.size(1));
    at::Tensor unused = at::empty_like(q);
    for_blocks(rows.n, n_pages, [&](int first, int n) {
      const Logits logits(*this, n, n_pages);
      attend_to_all(layer, q, rows, first, n, unused, &logits);
      gpu::page_score::Params p = scores_of(logits, n, ints(rows.length) + first, of.page);
      p.out_pages = n_pages;
      p.score = floats(score) + size_t(first) * size_t(n_pages);
      p.mass = floats(mass) + size_t(first) * size_t(n_pages);
      if (of.group_mass)
        p.group_mass = floats(of_groups) + size_t(first) * size_t(info().n_kv_heads * n_pages);
      gpu::page_score::run(p, {});
    });
  }

  // Rows first.. of `rows`. prefix: keys and values that the longest of all rows sees, n_keys of them.
  void value_of_block(int layer, const ValueRows& rows, const Prefix& prefix, int n_keys, int first, int n) {
    const int64_t n_all = std::ssize(rows.length), H = info().n_heads, row = H * info().head_dim,
                  n_pages = rows.out_pages, n_gradients = rows.n_gradients;
    const auto made = [](at::IntArrayRef shape) { return at::empty(shape, on_device(at::kFloat)); };
    const auto copy = [](at::Tensor to, const float* from) {
      to.copy_(at::from_blob(const_cast<float*>(from), to.sizes(), at::TensorOptions(at::kFloat)),
               /*non_blocking=*/true);
    };
    const Rows length = rows.length.subspan(size_t(first), size_t(n));
    std::vector<int32_t> position;
    for (const int32_t of_row : length) position.push_back(of_row - 1);
    const DeviceRows of{n, upload(length), upload(std::vector<int32_t>(size_t(n), 0))};
    const at::Tensor at_positions = upload(position);
    at::Tensor all_q = made({n, row}), gradient = made({n_gradients, n, row});
    copy(all_q, rows.q + first * row);
    for (int64_t g = 0; g < n_gradients; ++g) copy(gradient[g], rows.gradient + (g * n_all + first) * row);
    const at::Tensor q = all_q.to(at::kBFloat16);
    values_->let_go();
    at::Tensor lse = made({n, H});
    at::Tensor &mass = values_->mass = made({n, H, n_pages}),
               &value = values_->value = made({n_gradients, n, H, n_pages});
    if (rows.log_sum_exp) {
      copy(lse, rows.log_sum_exp + first * H);
    } else {
      at::Tensor out = at::empty_like(q);
      gpu::paged_attention::Params attended = attention(layer, q, of, 0, n, out);
      attended.lse = floats(lse);
      gpu::paged_attention::run(attended, {});
    }

    gpu::record_values::Params p;
    p.n_rows = n;
    p.n_heads = info().n_heads;
    p.n_kv_heads = info().n_kv_heads;
    p.head_dim = info().head_dim;
    p.n_gradients = rows.n_gradients;
    p.n_keys = n_keys;
    p.scale = scale();
    p.q = q.const_data_ptr();
    p.gradient = gradient.const_data_ptr<float>();
    p.keys = prefix.keys.const_data_ptr();
    p.values = prefix.values.const_data_ptr();
    p.token_stride = int64_t(info().n_kv_heads) * info().head_dim;
    p.head_stride = info().head_dim;
    p.lse = lse.const_data_ptr<float>();
    p.position = ints(at_positions);
    p.out_pages = rows.out_pages;
    p.mass = floats(mass);
    p.value = floats(value);
    gpu::record_values::run(p, {});
    values_->found.record(nullptr);
    values_->found.hold(values_->stream.get());
    const size_t n_numbers = size_t(mass.numel());
    gpu::copy_to_host(rows.mass + first * H * n_pages, mass.const_data_ptr<float>(), n_numbers,
                      values_->stream.get());
    for (int64_t g = 0; g < n_gradients; ++g)
      gpu::copy_to_host(rows.value + (g * n_all + first) * H * n_pages,
                        value.const_data_ptr<float>() + size_t(g) * n_numbers, n_numbers,
                        values_->stream.get());
    values_->copied.record(values_->stream.get());
  }

  static at::Tensor begin_copy_to_host(const at::Tensor& t) {
    return at::empty(t.sizes(), at::TensorOptions(at::kFloat).pinned_memory(true))
        .copy_(t, /*non_blocking=*/true);
  }

  // Copies begin, in the order of the stream; the host waits for them when it asks.
  static TakeScores taken(int n_pages, std::vector<at::Tensor> on_the_device) {
    std::vector<at::Tensor> host;
    for (const at::Tensor& t : on_the_device) host.push_back(begin_copy_to_host(t));
    auto copied = std::make_shared<gpu::Event>();
    copied->record(nullptr);
    return [n_pages, host = std::move(host), copied](ScoredRows& out) {
      copied->wait();
      out.n_pages = n_pages;
      std::vector<float>* const to[] = {&out.score, &out.mass, &out.group_mass};
      for (size_t i = 0; i < host.size(); ++i)
        to[i]->assign(host[i].const_data_ptr<float>(), host[i].const_data_ptr<float>() + host[i].numel());
    };
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

  // Values found, while a stream of their own copies them to the host and the device computes what is next.
  struct ValuesOnTheirWay {
    gpu::Stream stream;
    gpu::Event found, copied;
    at::Tensor mass, value;  // of the last block
    ~ValuesOnTheirWay() {
      try {
        copied.hold(nullptr);
      } catch (const std::exception&) {
        // A device that failed copies nothing more, and who met the failure first tells it.
      }
    }
    void let_go() {
      copied.hold(nullptr);
      mass = value = at::Tensor();
    }
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
  std::unique_ptr<ValuesOnTheirWay> values_;  // made when first asked for
  Whole whole_;
  Prefix prefix_;          // of the pass's sequence, where whole_ is a prefill's
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
