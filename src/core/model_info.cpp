#include "core/model_info.h"

#include <fmt/format.h>

namespace deltacal {

std::string geometry_difference(const ModelInfo& found, const ModelInfo& expected) {
  const auto differ = [](const char* field, const auto& a, const auto& b) {
    return fmt::format("{} {}, expected {}", field, a, b);
  };
  if (found.architecture != expected.architecture)
    return differ("architecture", found.architecture, expected.architecture);
  if (found.n_layers != expected.n_layers) return differ("n_layers", found.n_layers, expected.n_layers);
  if (found.n_heads != expected.n_heads) return differ("n_heads", found.n_heads, expected.n_heads);
  if (found.n_kv_heads != expected.n_kv_heads) return differ("n_kv_heads", found.n_kv_heads, expected.n_kv_heads);
  if (found.head_dim != expected.head_dim) return differ("head_dim", found.head_dim, expected.head_dim);
  return "";
}

}  // namespace deltacal
