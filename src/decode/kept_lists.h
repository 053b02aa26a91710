// The lists of one Δ-layer where they serve several steps (core/refresh.h), each sequence with its own.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "core/pages.h"
#include "decode/list_plan.h"
#include "decode/policy.h"

namespace deltacal::decode {

class KeptLists {
 public:
  KeptLists(const Policy&, const LayerPolicy&, int n_heads, int head_dim);

  // As ListPlan: which rows of a pass make a list, and whether any does.
  bool plan(const Rows& rows, const float* query) { return plan_.plan(rows, query); }
  bool makes_list(int row) const { return plan_.makes_list(row); }

  // After plan() of the same pass. lists [n_rows, K]: rows that make a list hold it, as ranked; the others
  // get the list in force. length [n_rows] out, pages of each; 0 in prefilled rows, which need no list.
  void fill(const Rows&, const float* query, std::span<int32_t> lists, std::span<int32_t> length);

 private:
  PageBudget list_;
  ListPlan plan_;
  std::vector<std::vector<int32_t>> pages_;  // by sequence [min(K, U(t0))] of the last list of earlier passes
};

}  // namespace deltacal::decode
