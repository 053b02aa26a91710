// Page masses and page values of one layer in host memory. Included only by src/sensitivity/*.cpp.
#pragma once
#include <ATen/ATen.h>

#include <span>

namespace deltacal::sensitivity {

class PageResults {
 public:
  // `pinned`: memory that a CUDA device copies to at full speed.
  PageResults(size_t n_masses, int n_gradients, bool pinned)
      : mass_(at::empty({int64_t(n_masses)}, at::TensorOptions(at::kFloat).pinned_memory(pinned))),
        value_(at::empty({int64_t(n_masses) * n_gradients},
                         at::TensorOptions(at::kFloat).pinned_memory(pinned))) {}
  float* mass() const { return mass_.mutable_data_ptr<float>(); }
  float* value() const { return value_.mutable_data_ptr<float>(); }
  std::span<const float> masses() const { return {mass(), size_t(mass_.numel())}; }    // [S, H, U]
  std::span<const float> values() const { return {value(), size_t(value_.numel())}; }  // [n, S, H, U]

 private:
  at::Tensor mass_, value_;
};

}  // namespace deltacal::sensitivity
