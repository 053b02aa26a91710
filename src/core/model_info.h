// What identifies a model in every artefact: enough to refuse a config or trace of another one.
#pragma once
#include <string>

#include "core/pages.h"

namespace deltacal {

struct ModelInfo {
  std::string name;          // general.name of the file, or the file's own name
  std::string architecture;  // "llama", "qwen2"
  std::string sha256;        // of the model file, lower-case hex
  int n_layers = 0;
  int n_heads = 0;           // query heads
  int n_kv_heads = 0;        // key/value heads
  int head_dim = 0;
  int page_size = deltacal::page_size;
  int max_context = 0;       // positions
  std::string dtype;         // of the computation that made the artefact: "f32" or "bf16"
  std::string device = "";   // that it ran on: "cpu", "NVIDIA H200"; empty: not known
};

// The first geometry field (n_layers, n_heads, n_kv_heads, head_dim, architecture) in which the two differ, as
// "n_layers 28, expected 30"; empty if none does.
std::string geometry_difference(const ModelInfo& found, const ModelInfo& expected);

}  // namespace deltacal
