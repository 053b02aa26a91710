#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "decode/engine.h"
#include "decode/logits_tensor.h"
#include "kernels/append_kv/append_kv.h"
#include "kernels/page_score/page_score.h"
#include "kernels/page_value/page_value.h"
#include "kernels/paged_attention/paged_attention.h"
#include "kernels/select_pages/select_pages.h"

namespace deltacal::decode {
namespace {

float* data(at::Tensor& t) {
  return t.mutable_data_ptr<float>();
}

class CpuEngine : public Engine {
 public:
  CpuEngine(const model::Model& model, KvCache& cache, const Policy& policy)
      : model_(model),
        cache_(cache),
        page_(policy.page_score),
        position_bias_(policy.position_bias),
        inverse_frequency_(model::inverse_frequencies(model.description())) {}

  void begin(const PassRows& rows) override {
    rows_ = rows;
    n_rows_ = static_cast<int>(rows.position.size());
    pages_of_row_.resize(rows.position.size());
    for (int r = 0; r < n_rows_; ++r) pages_of_row_[r] = pages_for(rows.length[r]);
  }

  at::Tensor add_and_norm(at::Tensor& x, const at::Tensor& added, const at::Tensor& weight) override {
    if (added.defined()) x.add_(added.to(at::kFloat));
    return at::rms_norm(x, {x.size(-1)}, weight, model_.description().rms_eps);
  }

  at::Tensor gate(const at::Tensor& gate_up) override {
    const int64_t n_ff = gate_up.size(1) / 2;
    return at::silu(gate_up.narrow(1, 0, n_ff)).mul_(gate_up.narrow(1, n_ff, n_ff));
  }

  at::Tensor append(int layer, at::Tensor qkv, const at::Tensor& bias) override {
    qkv = qkv.to(at::kFloat);
    if (bias.defined()) qkv.add_(bias);
    const int64_t q_size = int64_t(info().n_heads) * info().head_dim;
    const int64_t kv_size = int64_t(info().n_kv_heads) * info().head_dim;
    at::Tensor q = qkv.narrow(1, 0, q_size).contiguous();                  // [n_rows, H d]
    at::Tensor k = qkv.narrow(1, q_size, kv_size).contiguous();            // [n_rows, G d]
    at::Tensor v = qkv.narrow(1, q_size + kv_size, kv_size).contiguous();  // [n_rows, G d]
    kernels::append_kv::Params p;
    p.n_rows = n_rows_;
    p.n_heads = info().n_heads;
    p.pairs = model_.description().rope.pairs == model::RotaryPairs::interleaved
                  ? kernels::append_kv::RotaryPairs::interleaved
                  : kernels::append_kv::RotaryPairs::neox;
    p.rotary_dim = 2 * static_cast<int>(inverse_frequency_.size());
    p.inverse_frequency = inverse_frequency_.data();
    p.amplitude = model::rotary_amplitude(model_.description());
    p.sequence = rows_.sequence.data();
    p.position = rows_.position.data();
    p.q = data(q);
    p.k = data(k);
    p.v = data(v);
    p.kv = cache_.layer(layer);
    kernels::append_kv::cpu(p);
    return q;
  }

  at::Tensor rank(int layer, const LayerPolicy& policy, const at::Tensor& q) override {
    at::Tensor pages = at::empty({n_rows_, policy.k_pages}, at::kInt);
    kernels::select_pages::Params select;
    ScoredRows scored;
    if (policy.k_pages > policy.l_pages) {  // with K = L the list needs no score
      score_into(layer, q, rows_.length, rows_.sequence, page_, scored);
      select.score = scored.score.data();
      select.score_stride = scored.n_pages;
    }
    select.n_rows = n_rows_;
    select.k_pages = policy.k_pages;
    select.l_pages = policy.l_pages;
    select.position_bias = position_bias_;
    select.n_pages = pages_of_row_.data();
    select.list = pages.mutable_data_ptr<int32_t>();
    kernels::select_pages::cpu(select);
    return pages;
  }

  at::Tensor attend(int layer, const at::Tensor& q, const Lists& lists) override {
    at::Tensor out = at::empty_like(q);
    kernels::paged_attention::Params p;
    p.n_rows = n_rows_;
    p.n_heads = info().n_heads;
    p.scale = scale();
    p.q = q.const_data_ptr<float>();
    p.kv = cache_.layer(layer);
    p.sequence = rows_.sequence.data();
    p.length = rows_.length.data();
    if (!lists.all()) {
      p.list = lists.pages.const_data_ptr<int32_t>();
      p.list_length = lists.length.data();
      p.list_stride = static_cast<int>(lists.pages.size(1));
    }
    p.out = data(out);
    kernels::paged_attention::cpu(p);
    return out;
  }

  TakeScores score(int layer, const ScoreRows& rows) override {
    auto scored = std::make_shared<ScoredRows>();
    const size_t n = rows.length.size();
    scored->n_pages = pages_for(*std::ranges::max_element(rows.length));
    scored->mass.resize(n * size_t(scored->n_pages));
    scored->group_mass.resize(rows.group_mass ? n * size_t(info().n_kv_heads) * size_t(scored->n_pages) : 0);
    at::Tensor q = rows.q;  // [n, H d]
    if (!rows.of_pass.empty())
      q = q.index_select(
          0, at::from_blob(const_cast<int*>(rows.of_pass.data()), {std::ssize(rows.of_pass)}, at::kInt));
    score_into(layer, q, rows.length, rows.sequence, rows.page, *scored);
    return [scored](ScoredRows& out) { out = std::move(*scored); };
  }

  TakeRows take_rows(const at::Tensor& all, std::span<const int> rows) override {
    const int64_t width = all.size(1);
    std::vector<float> taken;
    for (const int row : rows) {
      const float* from = all.const_data_ptr<float>() + row * width;
      taken.insert(taken.end(), from, from + width);
    }
    return [taken = std::move(taken)]() mutable { return std::move(taken); };
  }

  WaitForValues value(int layer, const ValueRows& rows) override {
    kernels::page_value::Params p;
    p.n_rows = static_cast<int>(rows.length.size());
    p.n_heads = info().n_heads;
    p.n_gradients = rows.n_gradients;
    p.scale = scale();
    p.length = rows.length.data();
    p.q = rows.q;
    p.gradient = rows.gradient;
    p.kv = cache_.layer(layer);
    p.out_pages = rows.out_pages;
    p.mass = rows.mass;
    p.value = rows.value;
    kernels::page_value::cpu(p);
    return [] {};
  }

  at::Tensor nll(const at::Tensor& logits, std::span<const int32_t> target) override {
    return nll_tensor(logits, target);
  }

 private:
  const ModelInfo& info() const { return model_.info(); }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(info().head_dim)); }

  // Scores, and those masses that `out` has room for.
  void score_into(int layer, const at::Tensor& q, std::span<const int32_t> length,
                  std::span<const int32_t> sequence, PageScore page, ScoredRows& out) {
    out.n_pages = pages_for(*std::ranges::max_element(length));
    out.score.resize(length.size() * size_t(out.n_pages));
    kernels::page_score::Params p;
    p.n_rows = static_cast<int>(length.size());
    p.n_heads = info().n_heads;
    p.scale = scale();
    p.q = q.const_data_ptr<float>();
    p.kv = cache_.layer(layer);
    p.sequence = sequence.data();
    p.length = length.data();
    p.page = kernel_page(page);
    p.out_pages = out.n_pages;
    p.score = out.score.data();
    p.mass = out.mass.empty() ? nullptr : out.mass.data();
    p.group_mass = out.group_mass.empty() ? nullptr : out.group_mass.data();
    kernels::page_score::cpu(p);
  }

  const model::Model& model_;
  KvCache& cache_;
  PageScore page_;
  double position_bias_;
  std::vector<float> inverse_frequency_;  // [rotary_dim / 2]
  PassRows rows_;
  int n_rows_ = 0;
  std::vector<int32_t> pages_of_row_;  // [n_rows]
};

}  // namespace

std::unique_ptr<Engine> cpu_engine(const model::Model& model, KvCache& cache, const Policy& policy) {
  return std::make_unique<CpuEngine>(model, cache, policy);
}

}  // namespace deltacal::decode
