#include "sensitivity/gradients.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cassert>
#include <cmath>

#include "core/error.h"
#include "decode/device_info.h"
#include "model/weights.h"
#include "sensitivity/hidden_tensors.h"

namespace deltacal::sensitivity {
namespace {

using Tensors = std::vector<at::Tensor>;
// Positions at a time: of everything but attention and the output layer; of the output layer, whose width is
// the vocabulary.
struct RowsAtOnce {
  int64_t chunk, logits;
};
constexpr RowsAtOnce on_cpu{512, 256}, on_cuda{4096, 1024};

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

class Backward {
 public:
  Backward(const model::Model& model, const HiddenStates& hidden, const LossOptions& loss)
      : model_(model),
        d_(model.description()),
        hidden_(hidden),
        T_(hidden.n_tokens()),
        n_(loss.n_gradients()),
        device_(model.weights().embedding.device()),
        at_once_(device_.is_cuda() ? on_cuda : on_cpu) {
    make_rotary_tables();
  }

  // gradient_[n] = d loss_n / d (output of the last layer).
  void start(std::span<const int32_t> ids, int n_prompt_tokens, const LossOptions& loss) {
    const int last = d_.info.n_layers - 1;
    const at::Tensor o = attention(qkv_of(last, false));
    at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(loss.seed);
    for (int i = 0; i < n_; ++i) gradient_.push_back(at::zeros({T_, d_.n_embd}, at::device(device_)));
    for (int64_t first = n_prompt_tokens; first < T_; first += at_once_.logits) {
      const int64_t rows = std::min(at_once_.logits, T_ - first);
      at::Tensor x;
      {
        const c10::NoGradGuard no_grad;
        x = after_attention(last, input(last, first, rows), o.narrow(0, first, rows));
      }
      head(leaf(x), ids, first, loss, generator);
    }
  }

  // Replaces the gradient of a layer's output by that of its input (which nobody asks for of the first
  // layer); the gradient of its attention output, one [T, H d] for each loss.
  Tensors layer(int layer) {
    const bool goes_on = layer > 0;
    const Qkv qkv = qkv_of(layer, goes_on);
    const at::Tensor o = attention(qkv);  // [T, H d]
    Tensors of_output(n_), of_input(n_);
    for (int i = 0; i < n_; ++i)
      of_output[i] = at::empty_like(o), of_input[i] = at::empty({T_, d_.n_embd}, at::device(device_));
    for (int64_t first = 0; first < T_; first += at_once_.chunk) {
      const int64_t rows = std::min(at_once_.chunk, T_ - first);
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
    return of_output;
  }

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
    cos_ = cos_.to(device_);
    sin_ = sin_.to(device_);
  }

  // What a layer was given, [rows, E]: a view of what was captured, where that lies on the device.
  at::Tensor input(int layer, int64_t first, int64_t rows) const {
    return hidden_.tensors().layers[size_t(layer)].narrow(0, first, rows).to(device_);
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
    const at::ScalarType type = device_.is_cuda() ? at::kBFloat16 : at::kFloat;
    Tensors q, k, v;
    for (int64_t first = 0; first < T_; first += at_once_.chunk) {
      const Tensors part =
          before_attention(layer, input(layer, first, std::min(at_once_.chunk, T_ - first)), first);
      q.push_back(part[0].to(type)), k.push_back(part[1].to(type)), v.push_back(part[2].to(type));
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
    const at::Tensor out = device_.is_cuda() && decode::suits_cudnn(int(T_), int(T_), d_.info.head_dim)
                               ? std::get<0>(at::_scaled_dot_product_cudnn_attention(qkv.q, k, v, {}, true,
                                                                                     0.0, /*is_causal=*/true))
                               : at::scaled_dot_product_attention(qkv.q, k, v, {}, 0.0, /*is_causal=*/true);
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
    for (int64_t first = 0; first < T_; first += at_once_.chunk) {
      const int64_t rows = std::min(at_once_.chunk, T_ - first);
      const at::Tensor x = leaf(input(layer, first, rows));
      Tensors gradients;
      for (const at::Tensor& g : of_qkv)
        gradients.push_back(g.squeeze(0).narrow(1, first, rows).transpose(0, 1).to(at::kFloat));
      of_input.narrow(0, first, rows).add_(gradient_of(before_attention(layer, x, first), {x}, gradients)[0]);
    }
  }

  // x [rows, E]: the last layer's output at positions first.. .
  void head(const at::Tensor& x, std::span<const int32_t> ids, int64_t first, const LossOptions& loss,
            at::Generator& generator) {
    const at::Tensor normed = norm(x, model_.weights().output_norm);
    const at::Tensor log_p = at::log_softmax(project(normed, model_.weights().output), -1);  // [rows, V]
    const int64_t rows =
        loss.draws > 0 ? x.size(0) : std::min(x.size(0), T_ - 1 - first);  // that have a label
    if (rows <= 0) return;
    at::Tensor labels;  // [rows, n]
    {
      const c10::NoGradGuard no_grad;
      labels = loss.draws > 0
                   ? draws(log_p, generator)
                   : at::from_blob(const_cast<int32_t*>(ids.data()) + first + 1, {rows, 1}, at::kInt)
                         .to(device_, at::kLong);
    }
    for (int i = 0; i < n_; ++i) {
      const at::Tensor sum = -log_p.narrow(0, 0, rows).gather(1, labels.narrow(1, i, 1)).sum();
      gradient_[i]
          .narrow(0, first, x.size(0))
          .copy_(gradient_of({sum}, {x}, {at::ones({}, at::device(device_))})[0]);
    }
  }

  // n draws from each row's distribution, [rows, n]. On a device by the numbers that LibTorch's multinomial
  // on the CPU draws for two and more, and as there: the first token whose cumulative probability reaches
  // one.
  at::Tensor draws(const at::Tensor& log_p, at::Generator& generator) const {
    if (!device_.is_cuda()) return at::multinomial(log_p.exp(), n_, /*replacement=*/true, generator);
    const at::Tensor cumulative = at::cumsum(log_p.exp(), 1);  // [rows, V]
    const at::Tensor drawn = at::rand({log_p.size(0), n_}, generator, at::TensorOptions(at::kDouble));
    const at::Tensor reached =
        drawn.to(device_, at::kFloat) * cumulative.narrow(1, cumulative.size(1) - 1, 1);  // [rows, n]
    return at::searchsorted(cumulative, reached).clamp_max_(log_p.size(1) - 1);
  }

  const model::Model& model_;
  const model::Description& d_;
  const HiddenStates& hidden_;
  const int64_t T_;
  const int n_;
  const at::Device device_;
  const RowsAtOnce at_once_;
  at::Tensor cos_, sin_;  // [T, 1, d / 2]
  Tensors gradient_;      // [n] of [T, E]: d loss / d (input of the layer above)
};

void require_finite(std::span<const float> gradient, size_t row_size, int layer,
                    std::span<const int32_t> steps) {
  for (size_t i = 0; i < gradient.size(); ++i)
    if (!std::isfinite(gradient[i]))
      throw failure(
          "layer {}, step {}: the gradient of the attention output is {}: the model's arithmetic overflowed. "
          "Try --device cpu --dtype f32.",
          layer, steps[i / row_size % steps.size()], gradient[i]);
}

}  // namespace

void output_gradients(const model::Model& model, const HiddenStates& hidden, std::span<const int32_t> ids,
                      int n_prompt_tokens, std::span<const int32_t> steps, const LossOptions& loss,
                      const UseGradient& use) {
  assert(std::ssize(ids) == hidden.n_tokens() && !steps.empty() && steps.front() >= n_prompt_tokens);
  const c10::AutoGradMode with_gradients(true);
  Backward backward(model, hidden, loss);
  backward.start(ids, n_prompt_tokens, loss);
  const at::Tensor rows = at::from_blob(const_cast<int32_t*>(steps.data()), {std::ssize(steps)}, at::kInt)
                              .to(model.weights().embedding.device(), at::kLong);
  const size_t row_size = size_t(model.info().n_heads) * size_t(model.info().head_dim);
  for (int layer = model.info().n_layers - 1; layer >= 0; --layer) {
    Tensors of_output = backward.layer(layer);
    for (at::Tensor& g : of_output) g = g.index_select(0, rows);
    const at::Tensor chosen = at::stack(of_output).to(at::kCPU, at::kFloat).contiguous();  // [n, S, H d]
    const std::span<const float> gradient(chosen.const_data_ptr<float>(), size_t(chosen.numel()));
    require_finite(gradient, row_size, layer, steps);
    use(layer, gradient);
  }
}

}  // namespace deltacal::sensitivity
