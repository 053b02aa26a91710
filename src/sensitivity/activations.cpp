#include "sensitivity/activations.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "decode/device_info.h"
#include "decode/view_tensors.h"
#include "sensitivity/activation_tensors.h"

namespace deltacal::sensitivity {
namespace {

// Bytes that one layer takes on a device.
struct LayerBytes {
  size_t hidden, attended, gate_up;
  LayerBytes(const model::Description& d, int64_t n_tokens) {
    const size_t T = size_t(n_tokens), H = size_t(d.info.n_heads);
    hidden = 4 * T * size_t(d.n_embd);
    attended =
        size_t(rows_of_attention(n_tokens, d.info.head_dim)) * H * (2 * 2 * size_t(d.info.head_dim) + 4);
    gate_up = 2 * T * 2 * size_t(d.n_ff);
  }
};

}  // namespace

int64_t rows_of_attention(int64_t n_tokens, int head_dim) {
  constexpr int64_t a_thousand = 1024;
  const int64_t rows = (n_tokens + a_thousand - 1) / a_thousand * a_thousand;
  return decode::suits_cudnn(static_cast<int>(rows), static_cast<int>(rows), head_dim) ? rows : n_tokens;
}

at::Tensor rows_for_attention(const ModelInfo& m, int64_t n_tokens) {
  const int64_t rows = rows_of_attention(n_tokens, m.head_dim);
  at::Tensor made =
      at::empty({rows, m.n_heads, m.head_dim}, at::TensorOptions(at::kBFloat16).device(at::kCUDA));
  made.narrow(0, n_tokens, rows - n_tokens).zero_();
  return made;
}

Attended make_attended(const ModelInfo& m, int64_t n_tokens) {
  Attended made{rows_for_attention(m, n_tokens), rows_for_attention(m, n_tokens), {}};
  const int64_t rows = made.q.size(0);
  made.lse = at::empty({m.n_heads, rows}, made.q.options().dtype(at::kFloat));
  made.lse.narrow(1, n_tokens, rows - n_tokens).zero_();
  return made;
}

Activations::Activations(const model::Model& model, int n_tokens, size_t besides) : impl_(new Impl) {
  const model::Description& d = model.description();
  const size_t N = size_t(d.info.n_layers);
  impl_->n_tokens = n_tokens;
  impl_->attended.resize(N), impl_->keeps_gate_up.resize(N), impl_->gate_up.resize(N);
  at::TensorOptions of_hidden(at::kFloat);
  if (model.device() == model::Device::cuda) {
    const LayerBytes bytes(d, n_tokens);
    const size_t free = decode::device_info().free_bytes;
    // Where it gets tight, gaps would be memory that is counted on.
    if (free < besides + 2 * N * (bytes.hidden + bytes.attended + bytes.gate_up))
      decode::give_back_unused_memory();
    size_t room = free > besides ? free - besides : 0;
    const auto take_room = [&](size_t need) {
      if (room < need) return false;
      room -= need;
      return true;
    };
    if (take_room(N * bytes.hidden)) {
      of_hidden = of_hidden.device(at::kCUDA);
      for (Attended& attended : impl_->attended)
        if (take_room(bytes.attended)) attended = make_attended(d.info, n_tokens);
      // Not of the first layer, of which the backward pass wants some rows alone.
      for (size_t layer = 1; layer < N; ++layer) impl_->keeps_gate_up[layer] = take_room(bytes.gate_up);
    }
  }
  for (size_t layer = 0; layer < N; ++layer)
    impl_->hidden.push_back(at::empty({n_tokens, d.n_embd}, of_hidden));
}

Activations::Activations(Activations&&) noexcept = default;
Activations::~Activations() = default;

void Activations::take(const decode::LayerView& view) {
  const int64_t first = view.position.front(), n = view.n_rows;
  impl_->hidden[size_t(view.layer)].narrow(0, first, n).copy_(decode::hidden_of(view));
  Attended& attended = impl_->attended[size_t(view.layer)];
  if (!attended.q.defined()) return;
  const at::Tensor lse = decode::log_sum_exp_of(view);
  if (!lse.defined()) {  // of some rows it is not known: the layer's attention is computed again
    attended = {};
    return;
  }
  const std::vector<int64_t> rows{n, view.n_heads, view.head_dim};
  attended.q.narrow(0, first, n).copy_(decode::q_of(view).view(rows));
  attended.out.narrow(0, first, n).copy_(decode::attention_of(view).view(rows));
  attended.lse.narrow(1, first, n).copy_(lse.t());
}

void Activations::take_gate(const decode::LayerView& view) {
  if (impl_->keeps_gate_up[size_t(view.layer)])
    impl_->gate_up[size_t(view.layer)].push_back(decode::gate_up_of(view));
}

int Activations::n_tokens() const {
  return static_cast<int>(impl_->n_tokens);
}

at::Tensor Activations::Impl::gate_up_of(int layer, int64_t first, int64_t rows) const {
  std::vector<at::Tensor> parts;
  for (const at::Tensor& part : gate_up[size_t(layer)]) {
    const int64_t from = std::clamp<int64_t>(first, 0, part.size(0)),
                  to = std::clamp<int64_t>(first + rows, 0, part.size(0));
    if (from < to) parts.push_back(part.narrow(0, from, to - from));
    first -= part.size(0);
  }
  return parts.size() == 1 ? parts[0] : at::cat(parts);
}

}  // namespace deltacal::sensitivity
