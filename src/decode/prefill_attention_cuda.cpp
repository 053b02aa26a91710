#include <ATen/ATen.h>

#include <utility>

#include "decode/device_info.h"
#include "decode/prefill_attention.h"
#include "kernels/gather_pages/cuda.h"
#include "kernels/merge_attention/cuda.h"

namespace deltacal::decode {
namespace {

namespace gpu = kernels::cuda;

// Causal from the last key back: row r sees the first n_keys - n + r + 1.
AttendedRows attend_by_flash(const at::Tensor& q, const Prefix& prefix, float scale) {
  const auto done =
      at::_scaled_dot_product_flash_attention(as_heads(q), as_heads(prefix.keys), as_heads(prefix.values),
                                              0.0, /*is_causal=*/true, false, double(scale));
  return {as_rows(std::get<0>(done)), std::get<1>(done).squeeze(0).transpose(0, 1).contiguous()};
}

// cuDNN's causal mask begins at the first key: the rows' own keys, and those before them, which all see.
AttendedRows attend_by_cudnn(const at::Tensor& q, const Prefix& prefix, float scale) {
  const int64_t n = q.size(0), H = q.size(1), n_before = prefix.keys.size(0) - n;
  const auto attend_to = [&](int64_t first, int64_t n_keys, bool causal) {
    const auto done = at::_scaled_dot_product_cudnn_attention(
        as_heads(q), as_heads(prefix.keys.narrow(0, first, n_keys)),
        as_heads(prefix.values.narrow(0, first, n_keys)), {}, /*compute_log_sumexp=*/true, 0.0, causal, false,
        double(scale));
    return std::pair(as_rows(std::get<0>(done)),                    // [n, H d]
                     std::get<1>(done).view({H, n}).contiguous());  // [H, n]
  };
  const auto [own, own_lse] = attend_to(n_before, n, true);
  if (n_before == 0) return {own, own_lse.transpose(0, 1).contiguous()};
  const auto [before, before_lse] = attend_to(0, n_before, false);
  at::Tensor lse = at::empty({n, H}, own_lse.options());
  gpu::merge_attention::Params p;
  p.n_rows = static_cast<int>(n);
  p.n_heads = static_cast<int>(H);
  p.head_dim = static_cast<int>(q.size(2));
  p.a = own.const_data_ptr();
  p.b = before.const_data_ptr();
  p.lse_a = own_lse.const_data_ptr<float>();
  p.lse_b = before_lse.const_data_ptr<float>();
  p.out = own.mutable_data_ptr();
  p.lse = lse.mutable_data_ptr<float>();
  gpu::merge_attention::run(p, {});
  return {own, lse};
}

}  // namespace

at::Tensor as_heads(const at::Tensor& rows) {
  return rows.unsqueeze(0).transpose(1, 2);
}

at::Tensor as_rows(const at::Tensor& heads) {
  return heads.squeeze(0).transpose(0, 1).contiguous().flatten(1);
}

Prefix prefix_of(const gpu::PagedKv& kv, int sequence, int n_keys, int n_rows) {
  const auto made = [&] {
    at::Tensor rows =
        at::empty({n_rows, kv.n_kv_heads, kv.head_dim}, at::device(at::kCUDA).dtype(at::kBFloat16));
    rows.narrow(0, n_keys, n_rows - n_keys).zero_();
    return rows;
  };
  const Prefix prefix{made(), made()};
  gpu::gather_pages::Params p;
  p.kv = kv;
  p.sequence = sequence;
  p.n_keys = n_keys;
  p.keys = prefix.keys.mutable_data_ptr();
  p.values = prefix.values.mutable_data_ptr();
  gpu::gather_pages::run(p, {});
  return prefix;
}

AttendedRows attend_prefix(const at::Tensor& q, const Prefix& prefix, float scale) {
  const int n = static_cast<int>(q.size(0)), n_keys = static_cast<int>(prefix.keys.size(0));
  return suits_cudnn(n, n_keys, static_cast<int>(q.size(2))) ? attend_by_cudnn(q, prefix, scale)
                                                             : attend_by_flash(q, prefix, scale);
}

}  // namespace deltacal::decode
