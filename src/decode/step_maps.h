// Page score and page mass of one recorded step of a batch, of every layer, in host memory.
#pragma once
#include <cstddef>
#include <span>

namespace deltacal::decode {

struct StepMaps {
  int n_layers = 0, n_rows = 0, n_kv_heads = 0;
  int n_pages = 0;                    // row length, >= pages of every row
  const float* score = nullptr;       // [n_layers, n_rows, n_pages]  as kernels/page_score
  const float* mass = nullptr;        // [n_layers, n_rows, n_pages]
  const float* group_mass = nullptr;  // [n_layers, n_rows, n_kv_heads, n_pages]; null unless asked for

  std::span<const float> score_of(int layer, int row) const { return {score + at(layer, row), width()}; }
  std::span<const float> mass_of(int layer, int row) const { return {mass + at(layer, row), width()}; }
  std::span<const float> group_mass_of(int layer, int row, int group) const {
    return {group_mass + at(layer, row) * size_t(n_kv_heads) + size_t(group) * width(), width()};
  }

 private:
  size_t width() const { return size_t(n_pages); }
  size_t at(int layer, int row) const { return (size_t(layer) * size_t(n_rows) + size_t(row)) * width(); }
};

}  // namespace deltacal::decode
