#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>

#include "model/weights.h"
#include "sensitivity/backward.h"

namespace deltacal::sensitivity {
namespace {

using Tensors = std::vector<at::Tensor>;
// Positions at a time: of everything but attention and the output layer; of the output layer, whose width is
// the vocabulary.
constexpr int64_t rows_of_chunk = 512, rows_of_logits = 256;

// d outputs / d inputs times `gradients`; the graph is kept for another call.
Tensors gradient_of(const Tensors& outputs, const Tensors& inputs, const Tensors& gradients) {
  return torch::autograd::grad(outputs, inputs, gradients, /*retain_graph=*/true);
}

at::Tensor leaf(const at::Tensor& x) {
  return x.detach().requires_grad_(true);
}

// In the weights' type; x and the result are f32.
at::Tensor project(const at::Tensor& x, const at::Tensor& weight) {
  return at::linear(x.to(weight.scalar_type()), weight).to(at::kFloat);
}

// Queries, keys and values of all positions as attention wants them, and their gradients.
struct Qkv {
  at::Tensor q;     // [1, H, T, d] after rotary embedding
  at::Tensor k, v;  // [1, G, T, d]
};

class AutogradBackward : public Backward {
 public:
  AutogradBackward(const model::Model& model, const Activations::Impl& activations, const LossOptions& loss)
      : model_(model),
        d_(model.description()),
        activations_(activations),
        T_(activations.n_tokens),
        loss_(loss),
        n_(loss.n_gradients()) {
    make_rotary_tables();
  }

  // gradient_[n] = d loss_n / d (output of the last layer).
  void start(std::span<const int32_t> ids, int n_prompt_tokens) override {
    const c10::AutoGradMode with_gradients(true);
    const int last = d_.info.n_layers - 1;
    const at::Tensor o = attention(qkv_of(last, false));
    at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(loss_.seed);
    for (int i = 0; i < n_; ++i) gradient_.push_back(at::zeros({T_, d_.n_embd}));
    for (int64_t first = n_prompt_tokens; first < T_; first += rows_of_logits) {
      const int64_t rows = std::min(rows_of_logits, T_ - first);
      at::Tensor x;
      {
        const c10::NoGradGuard no_grad;
        x = after_attention(last, input(last, first, rows), o.narrow(0, first, rows));
      }
      head(leaf(x), ids, first, generator);
    }
  }

  // Replaces the gradient of a layer's output by that of its input (which nobody asks for of the first
  // layer).
  void layer(int layer, const at::Tensor& steps) override {
    const c10::AutoGradMode with_gradients(true);
    const bool goes_on = layer > 0;
    const Qkv qkv = qkv_of(layer, goes_on);
    const at::Tensor o = attention(qkv);  // [T, H d]
    Tensors of_output(n_), of_input(n_);
    for (int i = 0; i < n_; ++i) of_output[i] = at::empty_like(o), of_input[i] = at::empty({T_, d_.n_embd});
    for (int64_t first = 0; first < T_; first += rows_of_chunk) {
      const int64_t rows = std::min(rows_of_chunk, T_ - first);
      const at::Tensor x = leaf(input(layer, first, rows)), part = leaf(o.narrow(0, first, rows));
      const at::Tensor y = after_attention(layer, x, part);
      for (int i = 0; i < n_; ++i) {
        const Tensors g = gradient_of({y}, {x, part}, {gradient_[i].narrow(0, first, rows)});
        of_input[i].narrow(0, first, rows).copy_(g[0]);
        of_output[i].narrow(0, first, rows).copy_(g[1]);
      }
    }
    for (int i = 0; i < n_ && goes_on; ++i)
      add_before_attention(layer, gradient_of({o}, {qkv.q, qkv.k, qkv.v}, {of_output[i]}), of_input[i]);
    gradient_ = std::move(of_input);
    for (at::Tensor& g : of_output) g = g.index_select(0, steps);
    of_output_ = at::stack(of_output).to(at::kFloat);
  }

  at::Tensor of_output() override { return of_output_; }

 private:
  void make_rotary_tables() {
    const auto frequency = model::inverse_frequencies(d_);
    const int64_t half = std::ssize(frequency);
    cos_ = at::empty({T_, 1, half});
    sin_ = at::empty({T_, 1, half});
    float *c = cos_.mutable_data_ptr<float>(), *s = sin_.mutable_data_ptr<float>();
    const double amplitude = model::rotary_amplitude(d_);
    for (int64_t t = 0; t < T_; ++t)
      for (int64_t i = 0; i < half; ++i) {
        const double angle = double(t) * frequency[i];
        *c++ = float(amplitude * std::cos(angle));
        *s++ = float(amplitude * std::sin(angle));
      }
  }

  // What a layer was given, [rows, E].
  at::Tensor input(int layer, int64_t first, int64_t rows) const {
    return activations_.hidden[size_t(layer)].narrow(0, first, rows);
  }

  const model::LayerWeights& weights(int layer) const { return model_.weights().layers[layer]; }

  at::Tensor norm(const at::Tensor& x, const at::Tensor& weight) const {
    return at::rms_norm(x, {x.size(-1)}, weight, d_.rms_eps);
  }

  // x [rows, heads, d], positions first.. .
  at::Tensor rotate(const at::Tensor& x, int64_t first) const {
    const at::Tensor c = cos_.narrow(0, first, x.size(0)), s = sin_.narrow(0, first, x.size(0));
    const int64_t half = c.size(-1);
    if (d_.rope.pairs == model::RotaryPairs::interleaved) {
      const at::Tensor pairs = x.view({x.size(0), x.size(1), half, 2});
      const at::Tensor a = pairs.select(-1, 0), b = pairs.select(-1, 1);
      return at::stack({a * c - b * s, a * s + b * c}, -1).view(x.sizes());
    }
    const at::Tensor a = x.narrow(-1, 0, half), b = x.narrow(-1, half, half);
    return at::cat({a * c - b * s, a * s + b * c}, -1);
  }

  // [rows, heads, d] each, of x [rows, E] at positions first.. .
  Tensors before_attention(int layer, const at::Tensor& x, int64_t first) const {
    const model::LayerWeights& w = weights(layer);
    const ModelInfo& m = d_.info;
    at::Tensor qkv = project(norm(x, w.attention_norm), w.qkv);
    if (w.qkv_bias.defined()) qkv = qkv + w.qkv_bias;
    const Tensors parts =
        qkv.view({x.size(0), -1, m.head_dim}).split_with_sizes({m.n_heads, m.n_kv_heads, m.n_kv_heads}, 1);
    return {rotate(parts[0].contiguous(), first), rotate(parts[1].contiguous(), first),
            parts[2].contiguous()};
  }

  // Of all positions; leaves of a graph if `differentiable`.
  Qkv qkv_of(int layer, bool differentiable) const {
    const c10::NoGradGuard no_grad;
    Tensors q, k, v;
    for (int64_t first = 0; first < T_; first += rows_of_chunk) {
      const Tensors part =
          before_attention(layer, input(layer, first, std::min(rows_of_chunk, T_ - first)), first);
      q.push_back(part[0]), k.push_back(part[1]), v.push_back(part[2]);
    }
    const auto joined = [&](const Tensors& parts) {
      at::Tensor all = at::cat(parts).transpose(0, 1).unsqueeze(0).contiguous();
      return differentiable ? all.requires_grad_(true) : all;
    };
    return {joined(q), joined(k), joined(v)};
  }

  // [T, H d]. Causal; memory O(T): LibTorch's blockwise kernel keeps the log-sum-exp for its backward.
  at::Tensor attention(const Qkv& qkv) const {
    const int64_t group = d_.info.n_heads / d_.info.n_kv_heads;
    const at::Tensor k = qkv.k.repeat_interleave(group, 1), v = qkv.v.repeat_interleave(group, 1);
    const at::Tensor out = at::scaled_dot_product_attention(qkv.q, k, v, {}, 0.0, /*is_causal=*/true);
    return out.squeeze(0).transpose(0, 1).reshape({T_, int64_t(d_.info.n_heads) * d_.info.head_dim});
  }

  // The layer's output [rows, E] from its input and its attention output [rows, H d].
  at::Tensor after_attention(int layer, const at::Tensor& x, const at::Tensor& o) const {
    const model::LayerWeights& w = weights(layer);
    const at::Tensor middle = x + at::linear(o.to(w.attention_out.scalar_type()), w.attention_out);
    const at::Tensor normed = norm(middle, w.feed_norm).to(w.gate_up.scalar_type());
    const at::Tensor gate_up = at::linear(normed, w.gate_up);  // [rows, 2 F]
    const Tensors halves = gate_up.chunk(2, 1);                // whose gradients are joined by one copy
    return middle + at::linear(at::silu(halves[0]) * halves[1], w.down);
  }

  // Adds what comes through q, k and v, whose gradients are given, to the gradient of the layer's input [T,
  // E].
  void add_before_attention(int layer, const Tensors& of_qkv, at::Tensor& of_input) const {
    for (int64_t first = 0; first < T_; first += rows_of_chunk) {
      const int64_t rows = std::min(rows_of_chunk, T_ - first);
      const at::Tensor x = leaf(input(layer, first, rows));
      Tensors gradients;
      for (const at::Tensor& g : of_qkv)
        gradients.push_back(g.squeeze(0).narrow(1, first, rows).transpose(0, 1).to(at::kFloat));
      of_input.narrow(0, first, rows).add_(gradient_of(before_attention(layer, x, first), {x}, gradients)[0]);
    }
  }

  // x [rows, E]: the last layer's output at positions first.. .
  void head(const at::Tensor& x, std::span<const int32_t> ids, int64_t first, at::Generator& generator) {
    const at::Tensor normed = norm(x, model_.weights().output_norm);
    const at::Tensor log_p = at::log_softmax(project(normed, model_.weights().output), -1);  // [rows, V]
    const int64_t rows =
        loss_.draws > 0 ? x.size(0) : std::min(x.size(0), T_ - 1 - first);  // that have a label
    if (rows <= 0) return;
    at::Tensor labels;  // [rows, n]
    {
      const c10::NoGradGuard no_grad;
      labels = loss_.draws > 0
                   ? at::multinomial(log_p.exp(), n_, /*replacement=*/true, generator)
                   : at::from_blob(const_cast<int32_t*>(ids.data()) + first + 1, {rows, 1}, at::kInt)
                         .to(at::kLong);
    }
    for (int i = 0; i < n_; ++i) {
      const at::Tensor sum = -log_p.narrow(0, 0, rows).gather(1, labels.narrow(1, i, 1)).sum();
      gradient_[i].narrow(0, first, x.size(0)).copy_(gradient_of({sum}, {x}, {at::ones({})})[0]);
    }
  }

  const model::Model& model_;
  const model::Description& d_;
  const Activations::Impl& activations_;
  const int64_t T_;
  const LossOptions loss_;
  const int n_;
  at::Tensor cos_, sin_;  // [T, 1, d / 2]
  Tensors gradient_;      // [n] of [T, E]: d loss / d (input of the layer above)
  at::Tensor of_output_;  // [n, S, H d] of the last layer begun
};

}  // namespace

std::unique_ptr<Backward> autograd_backward(const model::Model& model, const Activations::Impl& activations,
                                            const LossOptions& loss) {
  return std::make_unique<AutogradBackward>(model, activations, loss);
}

}  // namespace deltacal::sensitivity
