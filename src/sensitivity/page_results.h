// Page masses and page values of one layer, and what they are made from, in host memory. Included only by
// src/sensitivity/*.cpp.
#pragma once
#include <ATen/ATen.h>

#include <span>

namespace deltacal::sensitivity {

class PageResults {
 public:
  // n_rows: S H; n_masses: S H U; n_outputs: S H d. `pinned`: memory that a CUDA device copies to at full
  // speed.
  PageResults(size_t n_rows, size_t n_masses, size_t n_outputs, int n_gradients, bool pinned)
      : q_(made(int64_t(n_outputs), pinned)),
        log_sum_exp_(made(int64_t(n_rows), pinned)),
        gradient_(made(int64_t(n_outputs) * n_gradients, pinned)),
        mass_(made(int64_t(n_masses), pinned)),
        value_(made(int64_t(n_masses) * n_gradients, pinned)) {}
  float* q() const { return q_.mutable_data_ptr<float>(); }                      // [S, H d]
  float* log_sum_exp() const { return log_sum_exp_.mutable_data_ptr<float>(); }  // [S, H]
  float* gradient() const { return gradient_.mutable_data_ptr<float>(); }        // [n, S, H d]
  float* mass() const { return mass_.mutable_data_ptr<float>(); }
  float* value() const { return value_.mutable_data_ptr<float>(); }
  std::span<const float> masses() const { return {mass(), size_t(mass_.numel())}; }    // [S, H, U]
  std::span<const float> values() const { return {value(), size_t(value_.numel())}; }  // [n, S, H, U]

 private:
  static at::Tensor made(int64_t n, bool pinned) {
    return at::empty({n}, at::TensorOptions(at::kFloat).pinned_memory(pinned));
  }
  at::Tensor q_, log_sum_exp_, gradient_, mass_, value_;
};

}  // namespace deltacal::sensitivity
