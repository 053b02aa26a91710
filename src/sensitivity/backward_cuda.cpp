// The backward pass on a CUDA device. Only gradients of activations are wanted, so a layer's is a chain of
// products with its weights, in bf16, and of kernels that read what the forward pass kept: the residual
// stream, queries, attention outputs and, where there was room, the gate's inputs. The gradient of the
// residual stream is kept in f32 and, rounded, in bf16, as the next product takes it. The host goes on while
// the device works: it waits for the rows that are asked for, for labels on their way to the device, and
// where what was kept lies in host memory.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

#include "decode/device_info.h"
#include "decode/device_model.h"
#include "decode/prefill_attention.h"
#include "kernels/cuda/graph.h"
#include "kernels/rms_norm_backward/cuda.h"
#include "kernels/rotary/cuda.h"
#include "kernels/swiglu_backward/cuda.h"
#include "model/weights.h"
#include "sensitivity/backward.h"
#include "sensitivity/backward_memory.h"

namespace deltacal::sensitivity {
namespace {

namespace gpu = kernels::cuda;
using decode::as_heads, decode::as_rows;
using Tensors = std::vector<at::Tensor>;

at::TensorOptions on_device(at::ScalarType type) {
  return at::TensorOptions(type).device(at::kCUDA);
}

// The gradient of the residual stream's rows by one loss.
struct Gradient {
  at::Tensor sum;      // [rows, E] f32
  at::Tensor rounded;  // [rows, E] bf16
  Gradient rows(int64_t first, int64_t n) const {
    return {sum.narrow(0, first, n), rounded.narrow(0, first, n)};
  }
  Gradient rows(const at::Tensor& index) const {
    return {sum.index_select(0, index), rounded.index_select(0, index)};
  }
};

class CudaBackward : public Backward {
 public:
  CudaBackward(const model::Model& model, Activations::Impl& activations, decode::KvCache& cache,
               const LossOptions& loss)
      : model_(model),
        d_(model.description()),
        activations_(activations),
        cache_(cache),
        loss_(loss),
        T_(activations.n_tokens),
        rows_of_attention_(rows_of_attention(T_, d_.info.head_dim)) {
    const c10::InferenceMode inference;
    inverse_frequency_ = decode::frequencies_on_device(d_);
    const std::span<const int32_t> table = cache.page_table();
    page_table_ =
        at::from_blob(const_cast<int32_t*>(table.data()), {std::ssize(table)}, at::kInt).to(at::kCUDA);
    for (int i = 0; i < loss.n_gradients(); ++i)
      gradient_.push_back({at::zeros({T_, d_.n_embd}, on_device(at::kFloat)),
                           at::zeros({T_, d_.n_embd}, on_device(at::kBFloat16))});
  }

  void start(std::span<const int32_t> ids, int n_prompt_tokens) override {
    const c10::InferenceMode inference;
    const int last = d_.info.n_layers - 1;
    at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(loss_.seed);
    for (int64_t first = n_prompt_tokens; first < T_; first += cuda_rows_of_chunk) {
      const int64_t rows = std::min(cuda_rows_of_chunk, T_ - first);
      auto [x, gate_up] = before_gate(last, first, rows);
      const at::Tensor normed = decode::add_and_norm(
          d_, x, at::linear(decode::gate(gate_up), weights(last).down), model_.weights().output_norm);
      for (int64_t part = 0; part < rows; part += cuda_rows_of_logits) {
        const int64_t n = std::min(cuda_rows_of_logits, rows - part);
        head(x.narrow(0, part, n), normed.narrow(0, part, n), ids, first + part, generator);
      }
    }
  }

  void layer(int layer, const at::Tensor& steps) override {
    const c10::InferenceMode inference;
    if (layer == 0) {  // nobody asks for the gradient of its input
      begin_copy(of_some_outputs(steps), {});
    } else {
      const Tensors of_output = through_feed_forward(layer);
      begin_copy(of_output, steps);
      const decode::Prefix prefix = prefix_of(layer);
      for (size_t i = 0; i < gradient_.size(); ++i)
        through_attention(layer, prefix, of_output[i], gradient_[i]);
    }
    activations_.hidden[size_t(layer)] = at::Tensor();
    activations_.attended[size_t(layer)] = {};
    activations_.gate_up[size_t(layer)].clear();
  }

  at::Tensor of_output() override {
    copied_.wait();
    return of_output_;
  }

 private:
  const model::LayerWeights& weights(int layer) const { return model_.weights().layers[size_t(layer)]; }
  int64_t q_size() const { return int64_t(d_.info.n_heads) * d_.info.head_dim; }
  int64_t kv_size() const { return int64_t(d_.info.n_kv_heads) * d_.info.head_dim; }

  // What a layer was given, [rows, E]: a view of what was kept, where that lies on the device.
  at::Tensor input(int layer, int64_t first, int64_t rows) const {
    return activations_.hidden[size_t(layer)].narrow(0, first, rows).to(at::kCUDA);
  }

  const Attended& attended(int layer) {
    Attended& kept = activations_.attended[size_t(layer)];
    if (!kept.q.defined()) kept = attend(layer);
    return kept;
  }

  // T' rows, those from T on 0.
  decode::Prefix prefix_of(int layer) const {
    return decode::prefix_of(decode::pages_of(cache_, d_.info, layer, page_table_.const_data_ptr<int32_t>()),
                             0, static_cast<int>(T_), static_cast<int>(rows_of_attention_));
  }

  // Of a layer whose attention was not kept.
  Attended attend(int layer) const {
    Attended made{rows_for_attention(d_.info, T_), {}, {}};
    for (int64_t first = 0; first < T_; first += cuda_rows_of_chunk) {
      const int64_t rows = std::min(cuda_rows_of_chunk, T_ - first);
      at::Tensor x = input(layer, first, rows);
      const at::Tensor normed = decode::add_and_norm(d_, x, {}, weights(layer).attention_norm),
                       q = at::linear(normed, weights(layer).qkv.narrow(0, 0, q_size()));
      gpu::rotary::Params p = rotation(d_.info.n_heads, rows, q, made.q.narrow(0, first, rows));
      p.first_position = static_cast<int>(first);
      if (weights(layer).qkv_bias.defined()) p.bias = weights(layer).qkv_bias.const_data_ptr<float>();
      gpu::rotary::run(p, {});
    }
    const decode::AttendedRows found =
        decode::attend_prefix(made.q, prefix_of(layer), decode::attention_scale(d_.info));
    made.out = found.out.view_as(made.q);
    made.lse = found.log_sum_exp.t().contiguous();
    return made;
  }

  // Heads of consecutive positions from 0, x to out [rows, n_heads, d].
  gpu::rotary::Params rotation(int n_heads, int64_t rows, const at::Tensor& x, const at::Tensor& out) const {
    gpu::rotary::Params p;
    p.n_rows = static_cast<int>(rows);
    p.n_heads = n_heads;
    p.head_dim = d_.info.head_dim;
    p.pairs = decode::rotary_pairs(d_);
    p.rotary_dim = 2 * static_cast<int>(inverse_frequency_.size(0));
    p.inverse_frequency = inverse_frequency_.const_data_ptr<float>();
    p.amplitude = model::rotary_amplitude(d_);
    p.x = x.const_data_ptr();
    p.out = out.mutable_data_ptr();
    return p;
  }

  // Adds the gradient of an RMS norm's input, x [rows, E], from that of its output, dy [rows, E].
  void through_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& dy,
                    const Gradient& gradient) const {
    gpu::rms_norm_backward::Params p;
    p.n_rows = static_cast<int>(x.size(0));
    p.n = static_cast<int>(x.size(1));
    p.epsilon = d_.rms_eps;
    p.x = x.const_data_ptr<float>();
    p.weight = weight.const_data_ptr<float>();
    p.dy = dy.const_data_ptr();
    p.gradient = gradient.sum.mutable_data_ptr<float>();
    p.out = gradient.rounded.mutable_data_ptr();
    gpu::rms_norm_backward::run(p, {});
  }

  // gate_up [rows, 2 F], dy [rows, F]; [rows, 2 F]
  static at::Tensor through_gate(const at::Tensor& gate_up, const at::Tensor& dy) {
    at::Tensor out = at::empty_like(gate_up);
    gpu::swiglu_backward::Params p;
    p.n_rows = static_cast<int>(dy.size(0));
    p.n = static_cast<int>(dy.size(1));
    p.gate_up = gate_up.const_data_ptr();
    p.dy = dy.const_data_ptr();
    p.d_gate_up = out.mutable_data_ptr();
    gpu::swiglu_backward::run(p, {});
    return out;
  }

  struct BeforeGate {
    at::Tensor middle;   // [rows, E] f32 the residual stream between attention and feed-forward part
    at::Tensor gate_up;  // [rows, 2 F]
  };
  // x [rows, E] a layer's input, used up; out [rows, H d]; gate_up undefined where it was not kept.
  BeforeGate before_gate(int layer, at::Tensor x, const at::Tensor& out, at::Tensor gate_up) const {
    const model::LayerWeights& w = weights(layer);
    const at::Tensor normed = decode::add_and_norm(d_, x, at::linear(out, w.attention_out), w.feed_norm);
    if (!gate_up.defined()) gate_up = at::linear(normed, w.gate_up);
    return {x, gate_up};
  }
  BeforeGate before_gate(int layer, int64_t first, int64_t rows) {
    at::Tensor x = at::empty({rows, d_.n_embd}, on_device(at::kFloat));
    x.copy_(activations_.hidden[size_t(layer)].narrow(0, first, rows));
    return before_gate(layer, x, attended(layer).out.narrow(0, first, rows).flatten(1),
                       activations_.keeps_gate_up[size_t(layer)] ? activations_.gate_up_of(layer, first, rows)
                                                                 : at::Tensor());
  }

  // The gradient of the layer's output becomes that of `at.middle`; of_output [rows, H d] that of the
  // attention output.
  void through_feed_forward(int layer, const BeforeGate& at, const Gradient& gradient,
                            at::Tensor of_output) const {
    const model::LayerWeights& w = weights(layer);
    at::Tensor d = at::mm(gradient.rounded, w.down);  // [rows, F]
    d = through_gate(at.gate_up, d);                  // [rows, 2 F]
    d = at::mm(d, w.gate_up);                         // [rows, E]
    through_norm(at.middle, w.feed_norm, d, gradient);
    at::mm_out(of_output, gradient.rounded, w.attention_out);
  }

  // Of all rows; the gradients of the attention output, one [T', H d] for each loss.
  Tensors through_feed_forward(int layer) {
    Tensors of_output;
    for (size_t i = 0; i < gradient_.size(); ++i) {
      of_output.push_back(at::empty({rows_of_attention_, q_size()}, on_device(at::kBFloat16)));
      of_output[i].narrow(0, T_, rows_of_attention_ - T_).zero_();
    }
    for (int64_t first = 0; first < T_; first += cuda_rows_of_chunk) {
      const int64_t rows = std::min(cuda_rows_of_chunk, T_ - first);
      const BeforeGate at = before_gate(layer, first, rows);
      for (size_t i = 0; i < gradient_.size(); ++i)
        through_feed_forward(layer, at, gradient_[i].rows(first, rows), of_output[i].narrow(0, first, rows));
    }
    return of_output;
  }

  // Of the first layer at some positions, one [S, H d] for each loss.
  Tensors of_some_outputs(const at::Tensor& steps) {
    const at::Tensor& hidden = activations_.hidden[0];
    Tensors of_output;
    for (size_t i = 0; i < gradient_.size(); ++i)
      of_output.push_back(at::empty({steps.size(0), q_size()}, on_device(at::kBFloat16)));
    for (int64_t first = 0; first < steps.size(0); first += cuda_rows_of_chunk) {
      const at::Tensor part = steps.narrow(0, first, std::min(cuda_rows_of_chunk, steps.size(0) - first));
      const BeforeGate at = before_gate(0, hidden.index_select(0, part.to(hidden.device())).to(at::kCUDA),
                                        attended(0).out.index_select(0, part).flatten(1), {});
      for (size_t i = 0; i < gradient_.size(); ++i)
        through_feed_forward(0, at, gradient_[i].rows(part), of_output[i].narrow(0, first, part.size(0)));
    }
    return of_output;
  }

  // of_output [T', H d]; the gradients of queries, keys and values before rotary embedding,
  // [T, (H + 2 G) d].
  at::Tensor of_qkv(int layer, const decode::Prefix& prefix, const at::Tensor& of_output) {
    const Attended& a = attended(layer);
    const auto& [keys, values] = prefix;
    const at::Tensor dy = as_heads(of_output.view_as(a.q)), q = as_heads(a.q), k = as_heads(keys),
                     v = as_heads(values), out = as_heads(a.out), lse = a.lse.unsqueeze(0);
    const at::Tensor no_dropout = at::zeros({}, on_device(at::kLong));
    const double scale = decode::attention_scale(d_.info);
    const int64_t n = rows_of_attention_;
    const bool by_cudnn = decode::suits_cudnn(static_cast<int>(n), static_cast<int>(n), d_.info.head_dim);
    const auto [dq, dk, dv] = by_cudnn ? at::_scaled_dot_product_cudnn_attention_backward(
                                             dy, q, k, v, out, lse.unsqueeze(-1), no_dropout, no_dropout, {},
                                             {}, {}, n, n, 0.0, /*is_causal=*/true, scale)
                                       : at::_scaled_dot_product_flash_attention_backward(
                                             dy, q, k, v, out, lse, {}, {}, n, n, 0.0, /*is_causal=*/true,
                                             no_dropout, no_dropout, scale);
    at::Tensor joined = at::empty({T_, q_size() + 2 * kv_size()}, on_device(at::kBFloat16));
    const auto turn_back = [&](int n_heads, const at::Tensor& of_heads, int64_t first) {
      const at::Tensor x = as_rows(of_heads);
      gpu::rotary::Params p = rotation(n_heads, T_, x, joined.narrow(1, first, x.size(1)));
      p.backward = true;
      p.out_stride = joined.size(1);
      gpu::rotary::run(p, {});
    };
    turn_back(d_.info.n_heads, dq, 0);
    turn_back(d_.info.n_kv_heads, dk, q_size());
    joined.narrow(1, q_size() + kv_size(), kv_size()).copy_(as_rows(dv).narrow(0, 0, T_));
    return joined;
  }

  // The gradient between attention and feed-forward part becomes that of the layer's input.
  void through_attention(int layer, const decode::Prefix& prefix, const at::Tensor& of_output,
                         const Gradient& gradient) {
    const model::LayerWeights& w = weights(layer);
    const at::Tensor of_normed = at::mm(of_qkv(layer, prefix, of_output), w.qkv);  // [T, E]
    for (int64_t first = 0; first < T_; first += cuda_rows_of_chunk) {
      const int64_t rows = std::min(cuda_rows_of_chunk, T_ - first);
      through_norm(input(layer, first, rows), w.attention_norm, of_normed.narrow(0, first, rows),
                   gradient.rows(first, rows));
    }
  }

  // x [rows, E]: the last layer's output at positions first.., normed: what the output layer takes of it.
  //
  // d loss / d logits is softmax - onehot(label). Only one product with the output layer's weights for all
  // losses: softmax - onehot(top), top the likeliest token, which has no large number in it, and what differs
  // is a row of the weights, W[top] - W[label], often of the same token.
  void head(const at::Tensor& x, const at::Tensor& normed, std::span<const int32_t> ids, int64_t first,
            at::Generator& generator) {
    const at::Tensor& weight = model_.weights().output;
    const int64_t rows =
        loss_.draws > 0 ? x.size(0) : std::min(x.size(0), T_ - 1 - first);  // that have a label
    if (rows <= 0) return;
    const at::Tensor p =
        at::softmax(at::mm(normed.narrow(0, 0, rows), weight.t(), at::kFloat), -1);  // [rows, V]
    const at::Tensor labels =
        loss_.draws > 0 ? draws(p, loss_.draws, generator)
                        : at::from_blob(const_cast<int32_t*>(ids.data()) + first + 1, {rows, 1}, at::kInt)
                              .to(at::kCUDA, at::kLong);  // [rows, n]
    const at::Tensor top = p.argmax(1, /*keepdim=*/true);
    p.scatter_add_(1, top, at::full_like(top, -1, p.options()));
    const at::Tensor common =
        at::mm(p.to(at::kBFloat16), weight, at::kFloat) + weight.index_select(0, top.squeeze(1));
    for (size_t i = 0; i < gradient_.size(); ++i) {
      const at::Tensor label = labels.select(1, int64_t(i));
      through_norm(x.narrow(0, 0, rows), model_.weights().output_norm,
                   (common - weight.index_select(0, label)).to(at::kBFloat16),
                   gradient_[i].rows(first, rows));
    }
  }

  // n draws from each row of p [rows, V], [rows, n]: by the numbers that LibTorch's multinomial on the CPU
  // draws for two and more, and as there: the first token whose cumulative probability reaches one.
  static at::Tensor draws(const at::Tensor& p, int n, at::Generator& generator) {
    const at::Tensor cumulative = at::cumsum(p, 1);  // [rows, V]
    const at::Tensor drawn = at::rand({p.size(0), n}, generator, at::TensorOptions(at::kDouble));
    const at::Tensor reached =
        drawn.to(at::kCUDA, at::kFloat) * cumulative.narrow(1, cumulative.size(1) - 1, 1);  // [rows, n]
    return at::searchsorted(cumulative, reached).clamp_max_(p.size(1) - 1);
  }

  // of_output [rows, H d] for each loss, of which the rows `steps` are wanted; undefined: all. One loss after
  // the other: in f32 and of all steps they would be much.
  void begin_copy(const Tensors& of_output, const at::Tensor& steps) {
    const int64_t n_rows = steps.defined() ? steps.size(0) : of_output[0].size(0);
    of_output_ = at::empty({std::ssize(of_output), n_rows, q_size()},
                           at::TensorOptions(at::kFloat).pinned_memory(true));
    for (size_t i = 0; i < of_output.size(); ++i) {
      const at::Tensor rows = steps.defined() ? of_output[i].index_select(0, steps) : of_output[i];
      of_output_[int64_t(i)].copy_(rows.to(at::kFloat), /*non_blocking=*/true);
    }
    copied_.record(nullptr);
  }

  const model::Model& model_;
  const model::Description& d_;
  Activations::Impl& activations_;
  decode::KvCache& cache_;
  const LossOptions loss_;
  const int64_t T_, rows_of_attention_;
  at::Tensor inverse_frequency_;    // [rotary_dim / 2]
  at::Tensor page_table_;           // [n_sequences max_pages] int32
  std::vector<Gradient> gradient_;  // [n] of all rows
  at::Tensor of_output_;            // in host memory, when copied_ has passed
  gpu::Event copied_;
};

}  // namespace

std::unique_ptr<Backward> cuda_backward(const model::Model& model, Activations::Impl& activations,
                                        decode::KvCache& cache, const LossOptions& loss) {
  return std::make_unique<CudaBackward>(model, activations, cache, loss);
}

}  // namespace deltacal::sensitivity
