#include <ATen/ATen.h>

#include <cmath>

#include "core/error.h"
#include "decode/decoder.h"
#include "decode/device_model.h"
#include "kernels/rms_norm/cuda.h"
#include "kernels/swiglu/cuda.h"

namespace deltacal::decode {

namespace gpu = kernels::cuda;

void check_kernels_for(const ModelInfo& info) {
  const std::string why = why_not_on_cuda(info);
  if (!why.empty()) throw bad_input("--device cuda: {}: use --device cpu", why);
}

float attention_scale(const ModelInfo& info) {
  return 1.0f / std::sqrt(static_cast<float>(info.head_dim));
}

at::Tensor frequencies_on_device(const model::Description& description) {
  std::vector<float> frequency = model::inverse_frequencies(description);
  return at::from_blob(frequency.data(), {std::ssize(frequency)}, at::kFloat).to(at::kCUDA);
}

gpu::PagedKv pages_of(KvCache& cache, const ModelInfo& info, int layer, const int32_t* page_table) {
  gpu::PagedKv kv;
  kv.type = gpu::Type::bf16;
  kv.n_kv_heads = info.n_kv_heads;
  kv.head_dim = info.head_dim;
  kv.n_pages = cache.n_pages();
  kv.keys = cache.keys(layer);
  kv.values = cache.values(layer);
  kv.page_table = page_table;
  kv.max_pages = cache.max_pages();
  return kv;
}

gpu::append_kv::RotaryPairs rotary_pairs(const model::Description& description) {
  return description.rope.pairs == model::RotaryPairs::interleaved ? gpu::append_kv::RotaryPairs::interleaved
                                                                   : gpu::append_kv::RotaryPairs::neox;
}

gpu::append_kv::Params append_params(const model::Description& description, const at::Tensor& frequencies,
                                     int n_rows, const at::Tensor& qkv, const at::Tensor& q_out) {
  const ModelInfo& info = description.info;
  const int64_t q_size = int64_t(info.n_heads) * info.head_dim,
                kv_size = int64_t(info.n_kv_heads) * info.head_dim;
  const char* rows = static_cast<const char*>(qkv.const_data_ptr());
  gpu::append_kv::Params p;
  p.n_rows = n_rows;
  p.n_heads = info.n_heads;
  p.pairs = rotary_pairs(description);
  p.rotary_dim = 2 * static_cast<int>(frequencies.size(0));
  p.inverse_frequency = frequencies.const_data_ptr<float>();
  p.amplitude = model::rotary_amplitude(description);
  p.q = rows;
  p.k = rows + q_size * qkv.element_size();
  p.v = rows + (q_size + kv_size) * qkv.element_size();
  p.q_out = q_out.mutable_data_ptr();
  p.q_stride = p.k_stride = p.v_stride = q_size + 2 * kv_size;
  return p;
}

at::Tensor add_and_norm(const model::Description& description, at::Tensor& x, const at::Tensor& added,
                        const at::Tensor& weight) {
  at::Tensor out = at::empty(x.sizes(), at::TensorOptions(at::kBFloat16).device(at::kCUDA));
  gpu::rms_norm::Params p;
  p.n_rows = static_cast<int>(x.size(0));
  p.n = static_cast<int>(x.size(1));
  p.epsilon = description.rms_eps;
  p.x = x.mutable_data_ptr<float>();
  p.y = added.defined() ? added.const_data_ptr() : nullptr;
  p.weight = weight.const_data_ptr<float>();
  p.out = out.mutable_data_ptr();
  gpu::rms_norm::run(p, {});
  return out;
}

at::Tensor gate(const at::Tensor& gate_up) {
  at::Tensor out = at::empty({gate_up.size(0), gate_up.size(1) / 2}, gate_up.options());
  gpu::swiglu::Params p;
  p.n_rows = static_cast<int>(out.size(0));
  p.n = static_cast<int>(out.size(1));
  p.gate_up = gate_up.const_data_ptr();
  p.out = out.mutable_data_ptr();
  gpu::swiglu::run(p, {});
  return out;
}

}  // namespace deltacal::decode
