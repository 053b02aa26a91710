// A transformer in double precision, written from the papers with Eigen: what decoder, recording and evaluation must
// agree with. It shares no code with them but the reading of the file.
#pragma once
#include <Eigen/Core>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "config/schedule.h"

namespace deltacal::test {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct ReferenceRun {
  std::vector<Matrix> score, mass;  // [n_layers] of [T, U]; empty unless asked for
  std::vector<double> nll;          // [T-1] nats
  Matrix log_probability;           // [T, V]
  std::vector<Matrix> output;       // [n_layers] of [T, H d]: attention outputs before the output projection
  std::vector<int> n_lists;         // [n_layers] lists made by the steps
};

struct ReferenceOptions {
  int n_prompt_tokens = 0;                           // positions below attend to everything
  std::optional<config::Schedule> schedule;          // without: full attention
  bool pages = true;                                 // fill score and mass (of what the hidden states would attend to in full)
  // Changes a layer's attention outputs [T, H d] before they are used: for finite differences.
  std::function<void(int layer, Matrix& output)> change_output = nullptr;
};

// Causal pass over ids [T] of the llama or qwen2 model in a GGUF file without rotary scaling.
ReferenceRun reference_run(const std::string& gguf, std::span<const int32_t> ids, const ReferenceOptions&);

}  // namespace deltacal::test
