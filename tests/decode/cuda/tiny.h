// A tiny model with kernels on a CUDA device, and what its tests have in common.
#pragma once
#include <algorithm>

#include "model/model.h"
#include "support/scratch.h"
#include "support/tiny_model.h"

namespace deltacal::decode {

constexpr int n_layers = 6, max_positions = 512;

inline model::Model tiny(test::TinyModel options = {}) {
  test::Scratch scratch;
  options.n_layers = n_layers;
  options.head_dim = std::max(options.head_dim, 64);
  options.max_context = 1024;
  options.logit_deviation = 1.5;
  test::write_tiny_model(options, scratch / "tiny.gguf");
  return model::Model::load(scratch / "tiny.gguf", model::Dtype::bf16, model::Device::cuda);
}

}  // namespace deltacal::decode
