// Models and generators of random numbers: Model::random.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "core/error.h"
#include "model/generator.h"
#include "model/model.h"
#include "model/weights.h"

namespace deltacal::model {

at::Generator generator_on(Device device, uint64_t seed) {
  if (device == Device::cpu) return at::detail::createCPUGenerator(seed);
  at::globalContext().lazyInitDevice(at::kCUDA);
  at::Generator generator = at::detail::getCUDAHooks().getNewGenerator(0);
  generator.set_current_seed(seed);
  return generator;
}

namespace {

// Makes weights whose outputs have entries of about 1 for inputs that have.
class Maker {
 public:
  Maker(Dtype dtype, Device device, uint64_t seed)
      : type_(dtype == Dtype::bf16 ? at::kBFloat16 : at::kFloat),
        device_(device == Device::cuda ? at::kCUDA : at::kCPU),
        generator_(generator_on(device, seed)) {}
  at::ScalarType type() const { return type_; }
  at::Tensor ones(int64_t n) const { return at::ones({n}, options(at::kFloat)); }
  at::Tensor normal(std::vector<int64_t> shape, at::ScalarType type, double deviation) {
    return at::empty(shape, options(type)).normal_(0, deviation, generator_);
  }
  at::Tensor matrix(int64_t out, int64_t in) { return normal({out, in}, type_, 1 / std::sqrt(double(in))); }

 private:
  at::TensorOptions options(at::ScalarType type) const { return at::TensorOptions(type).device(device_); }
  at::ScalarType type_;
  at::DeviceType device_;
  at::Generator generator_;
};

}  // namespace

Model Model::random(const Description& description, Dtype dtype, Device device, uint64_t seed) {
  const c10::NoGradGuard no_grad;
  Model model;
  model.description_ = description;
  model.description_.info.dtype = name_of(dtype);
  model.dtype_ = dtype;
  model.device_ = device;
  model.weights_ = std::make_unique<Weights>();
  const ModelInfo& m = description.info;
  const int64_t E = description.n_embd, F = description.n_ff, V = description.n_vocab,
                q = int64_t(m.n_heads) * m.head_dim, kv = int64_t(m.n_kv_heads) * m.head_dim;
  Weights& w = *model.weights_;
  try {
    Maker make(dtype, device, seed);
    w.embedding = make.normal({V, E}, at::kFloat, 1 / std::sqrt(double(E)));
    for (int layer = 0; layer < m.n_layers; ++layer) {
      LayerWeights& l = w.layers.emplace_back();
      l.attention_norm = make.ones(E);
      l.qkv = make.matrix(q + 2 * kv, E);
      if (description.qkv_bias) l.qkv_bias = make.normal({q + 2 * kv}, at::kFloat, 0.1);
      l.attention_out = make.matrix(E, q);
      l.feed_norm = make.ones(E);
      l.gate_up = make.matrix(2 * F, E);
      l.down = make.matrix(E, F);
    }
    w.output_norm = make.ones(E);
    w.output = !description.tied_output ? make.matrix(V, E)
               : device == Device::cuda ? w.embedding.to(make.type())
                                        : w.embedding;
  } catch (const c10::OutOfMemoryError&) {
    throw failure("no device memory for random weights of {}: they take {:.1f} GB", m.name,
                  1e-9 * double(random_bytes(description, dtype, device)));
  }
  return model;
}

size_t Model::random_bytes(const Description& description, Dtype dtype, Device device) {
  const size_t table = size_t(description.n_vocab) * size_t(description.n_embd),
               bytes = dtype == Dtype::bf16 ? 2 : 4;
  size_t others = 0;
  for (const WeightShape& weight : weight_shapes(description)) {
    if (weight.name == "token_embd.weight" || weight.name == "output.weight") continue;
    size_t n = 1;
    for (const int64_t size : weight.shape) n *= size_t(size);
    others += n * (weight.shape.size() == 1 ? 4 : bytes);  // norms and biases are f32 in any case
  }
  const bool one_table = description.tied_output && device == Device::cpu;
  return others + table * (4 + (one_table ? 0 : bytes));
}

}  // namespace deltacal::model
