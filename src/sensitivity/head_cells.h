// What head weights decide in one sample (core/head_cells.h), for some Δ-layers at once: one forward and one
// backward pass of the full model. The labels are the sample's own next tokens.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/head_cells.h"
#include "decode/decoder.h"
#include "model/model.h"

namespace deltacal::sensitivity {

// A Δ-layer and the sparse layers that read its list.
struct ListUse {
  int layer = 0;
  struct Served {
    int layer = 0, k_pages = 0;
  };
  std::vector<Served> served;  // not empty
};

// One entry for each use; id and problem are left empty. `steps` [S] ascending positions from n_prompt_tokens
// on. failure as in output_gradients(). `advance` is called with the positions of each chunk of the forward
// pass.
std::vector<HeadCells> head_cells(const model::Model&, std::span<const int32_t> ids, int n_prompt_tokens,
                                  std::span<const int32_t> steps, std::span<const ListUse> uses,
                                  const std::function<void(int n_positions)>& advance = {});

// What they take.
size_t head_cells_bytes(int n_heads, std::span<const int32_t> steps, std::span<const ListUse> uses);

}  // namespace deltacal::sensitivity
