// A model ready to run: its description, its weights and its tokenizer, read from one GGUF file.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "model/description.h"
#include "model/device.h"
#include "text/tokenizer.h"

namespace deltacal::model {

struct Weights;

// Arithmetic of the linear layers and of the KV cache; everything else is f32.
enum class Dtype { f32, bf16 };

// "auto" (bf16 on a CUDA device and where the CPU multiplies bf16, else f32), "f32", "bf16"; bad_input for
// another name, for bf16 on a CPU without AVX-512, and for f32 on a CUDA device.
Dtype choose_dtype(const std::string& name, Device device = Device::cpu);
std::string name_of(Dtype);

// Threads of LibTorch and of the kernels (they share one pool); 0 leaves the default. bad_input beyond four times what
// the machine runs at once.
void set_threads(int n_threads);
int n_threads();

// Description, identity and tokenizer alone: quick, for --dry-run, inspect and for checks before any weight is read.
struct Header {
  Description description;  // with sha256
  text::Vocabulary vocabulary;
};
Header read_header(const std::string& path);

class Model {
 public:
  // failure where the device has no memory for the weights.
  static Model load(const std::string& path, Dtype, const Header&, Device = Device::cpu);
  static Model load(const std::string& path, Dtype dtype, Device device = Device::cpu) {
    return load(path, dtype, read_header(path), device);
  }
  // Random weights of a shape (shape.h), made on the device. Without a tokenizer: for timings alone.
  // failure where there is no memory for them.
  static Model random(const Description&, Dtype, Device, uint64_t seed);
  static size_t random_bytes(const Description&, Dtype, Device);  // of its weights
  // Of the weights of any model of the shape on a CUDA device.
  static size_t device_bytes(const Description& d) { return random_bytes(d, Dtype::bf16, Device::cuda); }
  Model(Model&&) noexcept;
  ~Model();

  const Description& description() const { return description_; }
  const ModelInfo& info() const { return description_.info; }
  const text::Tokenizer& tokenizer() const { return *tokenizer_; }  // not of random weights
  const Weights& weights() const { return *weights_; }
  Dtype dtype() const { return dtype_; }
  Device device() const { return device_; }
  size_t weight_bytes() const;  // as held in memory

 private:
  Model();
  void move_to_cuda();
  Description description_;
  Dtype dtype_ = Dtype::f32;
  Device device_ = Device::cpu;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::unique_ptr<Weights> weights_;
};

// Floating-point operations a second of a linear layer in `dtype`, measured in a fraction of a second: for estimates.
double measure_linear_rate(Dtype);

}  // namespace deltacal::model
