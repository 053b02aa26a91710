#include "model/model.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/error.h"
#include "core/hash.h"
#include "model/gguf.h"
#include "model/vocabulary.h"
#include "model/weights.h"

namespace deltacal::model {
namespace {

at::ScalarType scalar_type(Dtype dtype) { return dtype == Dtype::bf16 ? at::kBFloat16 : at::kFloat; }

// A vector of the file, [n] f32.
at::Tensor vector_of(const Gguf& file, const std::string& name) {
  const GgufTensor& tensor = file.tensor(name);
  at::Tensor out = at::empty({tensor.n_elements()}, at::kFloat);
  dequantize(tensor, {out.mutable_data_ptr<float>(), static_cast<size_t>(out.numel())});
  return out;
}

// Matrices of the file below one another, [sum of rows, in]; GGUF's shape is {in, out}.
at::Tensor matrix_of(const Gguf& file, const std::vector<std::string>& names, Dtype dtype) {
  const int64_t in = file.tensor(names[0]).shape[0];
  int64_t rows = 0;
  for (const auto& name : names) rows += file.tensor(name).shape[1];
  at::Tensor out = at::empty({rows, in}, scalar_type(dtype));
  int64_t row = 0;
  for (const auto& name : names) {
    const GgufTensor& tensor = file.tensor(name);
    at::Tensor part = at::empty({tensor.shape[1], in}, at::kFloat);
    dequantize(tensor, {part.mutable_data_ptr<float>(), static_cast<size_t>(part.numel())});
    out.narrow(0, row, tensor.shape[1]).copy_(part);
    row += tensor.shape[1];
  }
  return out;
}

LayerWeights layer_of(const Gguf& file, int layer, bool qkv_bias, Dtype dtype) {
  const auto name = [layer](const char* part) { return fmt::format("blk.{}.{}", layer, part); };
  LayerWeights w;
  w.attention_norm = vector_of(file, name("attn_norm.weight"));
  w.qkv = matrix_of(file, {name("attn_q.weight"), name("attn_k.weight"), name("attn_v.weight")}, dtype);
  if (qkv_bias)
    w.qkv_bias = at::cat({vector_of(file, name("attn_q.bias")), vector_of(file, name("attn_k.bias")),
                          vector_of(file, name("attn_v.bias"))});
  w.attention_out = matrix_of(file, {name("attn_output.weight")}, dtype);
  w.feed_norm = vector_of(file, name("ffn_norm.weight"));
  w.gate_up = matrix_of(file, {name("ffn_gate.weight"), name("ffn_up.weight")}, dtype);
  w.down = matrix_of(file, {name("ffn_down.weight")}, dtype);
  return w;
}

bool cpu_multiplies_bf16() { return __builtin_cpu_supports("avx512bf16"); }

}  // namespace

Dtype choose_dtype(const std::string& name, Device device) {
  if (device == Device::cuda) {
    if (name == "auto" || name == "bf16") return Dtype::bf16;
    if (name == "f32")
      throw bad_input("--dtype f32: there are no CUDA kernels for it; use bf16, or --device cpu");
  }
  if (name == "f32") return Dtype::f32;
  if (name == "auto") return cpu_multiplies_bf16() ? Dtype::bf16 : Dtype::f32;
  if (name == "bf16") {
    // LibTorch multiplies bf16 on older CPUs too, but many times slower than f32.
    if (!__builtin_cpu_supports("avx512bw"))
      throw bad_input("--dtype bf16: this CPU has no AVX-512, so f32 is faster and exact; use auto or f32");
    return Dtype::bf16;
  }
  throw bad_input("--dtype {}: unknown on this device; use auto, f32 or bf16", name);
}

std::string name_of(Dtype dtype) { return dtype == Dtype::bf16 ? "bf16" : "f32"; }

void set_threads(int n) {
  const int most = 4 * std::max(1u, std::thread::hardware_concurrency());
  if (n > most) throw bad_input("--threads {}: this machine has use for {} at most", n, most);
  if (n > 0) at::set_num_threads(n);
}

int n_threads() { return at::get_num_threads(); }

namespace {

// LibTorch hands exp, log and sqrt over many elements to MKL, which picks a function's code at its first
// call; where several threads make that call together, one of them may get code of low accuracy (1.5e-4) for
// its share of it (seen with MKL 2024.2; PyTorch issue 188792). A first call with one element leaves nothing
// to pick.
void settle_vector_math() {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const at::Tensor one = at::ones({1}, dtype);
    at::exp(one), at::log(one), at::sqrt(one);
  }
}

}  // namespace

Model::Model() = default;
Model::Model(Model&&) noexcept = default;
Model::~Model() = default;

Model Model::load(const std::string& path, Dtype dtype, const Header& header, Device device) {
  const c10::NoGradGuard no_grad;  // not inference mode: the sensitivity pass differentiates through these weights
  settle_vector_math();
  const Gguf file(path);
  Model model;
  model.description_ = header.description;
  model.description_.info.dtype = name_of(dtype);
  model.dtype_ = dtype;
  model.tokenizer_ = std::make_unique<text::Tokenizer>(header.vocabulary);
  model.weights_ = std::make_unique<Weights>();
  Weights& w = *model.weights_;
  w.embedding = matrix_of(file, {"token_embd.weight"}, Dtype::f32);
  for (int layer = 0; layer < model.info().n_layers; ++layer)
    w.layers.push_back(layer_of(file, layer, model.description_.qkv_bias, dtype));
  w.output_norm = vector_of(file, "output_norm.weight");
  w.output = model.description_.tied_output ? w.embedding : matrix_of(file, {"output.weight"}, Dtype::f32);
  if (device == Device::cuda) model.move_to_cuda();
  return model;
}

void Model::move_to_cuda() {
  device_ = Device::cuda;
  const auto move = [](at::Tensor& t) {
    if (t.defined()) t = t.to(at::kCUDA);
  };
  try {
    Weights& w = *weights_;
    w.output = w.output.to(at::kBFloat16);
    move(w.embedding), move(w.output_norm);
    for (LayerWeights& l : w.layers)
      for (at::Tensor* t :
           {&l.attention_norm, &l.qkv, &l.qkv_bias, &l.attention_out, &l.feed_norm, &l.gate_up, &l.down})
        move(*t);
    move(w.output);
  } catch (const c10::OutOfMemoryError&) {
    throw failure("no device memory for the weights of {}: they take {:.1f} GB", info().name,
                  1e-9 * double(weight_bytes()));
  }
}

size_t Model::weight_bytes() const {
  size_t bytes = weights_->embedding.nbytes() + weights_->output_norm.nbytes();
  if (!weights_->output.is_alias_of(weights_->embedding)) bytes += weights_->output.nbytes();
  for (const auto& w : weights_->layers) {
    for (const at::Tensor* t : {&w.attention_norm, &w.qkv, &w.attention_out, &w.feed_norm, &w.gate_up, &w.down})
      bytes += t->nbytes();
    if (w.qkv_bias.defined()) bytes += w.qkv_bias.nbytes();
  }
  return bytes;
}

Header read_header(const std::string& path) {
  const Gguf file(path);
  Header header{describe(file), vocabulary_from(file)};
  header.description.info.sha256 = sha256_of_file(path);
  return header;
}

double measure_linear_rate(Dtype dtype) {
  const c10::InferenceMode inference;
  constexpr int64_t rows = 512, size = 1024;
  const at::Tensor x = at::ones({rows, size}, scalar_type(dtype)), w = at::ones({size, size}, scalar_type(dtype));
  at::linear(x, w);  // warm-up
  const auto start = std::chrono::steady_clock::now();
  constexpr int repeats = 5;
  for (int i = 0; i < repeats; ++i) at::linear(x, w);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return repeats * 2.0 * rows * size * size / seconds.count();
}

}  // namespace deltacal::model
