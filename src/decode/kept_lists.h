// The lists of one Δ-layer where they serve several steps (core/refresh.h), each sequence with its own, from
// one forward pass to the next: a chunk's border resets nothing.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "core/pages.h"
#include "decode/policy.h"

namespace deltacal::decode {

struct Rows;

class KeptLists {
 public:
  KeptLists(const Policy&, const LayerPolicy&, int n_heads, int head_dim);

  // Decides which rows of a pass make a list: the first step of a sequence, and others by interval or signal.
  // query [n_rows, n_heads, head_dim] before the rotary embedding; read by the signal alone. Returns whether
  // any does.
  bool plan(const Rows&, const float* query);
  bool makes_list(int row) const { return made_by_[size_t(row)] == row; }

  // After plan() of the same pass. lists [n_rows, K]: rows that make a list hold it, as ranked; the others
  // get the list in force. length [n_rows] out, pages of each; 0 in prefilled rows, which need no list.
  void fill(const Rows&, const float* query, std::span<int32_t> lists, std::span<int32_t> length);

 private:
  struct Kept {
    int t0 = -1;                 // the step of the last list; -1: none
    int row = earlier;           // of the pass at hand that makes it, or:
    std::vector<int32_t> pages;  // [min(K, U(t0))] it was made in an earlier pass
    std::vector<float> query;    // [n_heads, head_dim] of t0, where the signal needs it
  };
  static constexpr int earlier = -1, prefilled = -2;

  bool is_due(const Kept&, int t, int first_step, const float* q, const float* queries) const;
  double mean_cosine(const float* a, const float* b) const;

  PageBudget list_;
  int interval_, n_heads_, head_dim_;
  std::optional<config::AdaptiveRefresh> signal_;
  std::vector<Kept> kept_;    // by sequence
  std::vector<int> made_by_;  // [n_rows] the row that makes the list in force, `earlier` or `prefilled`
  std::vector<int> t0_;       // [n_rows] its step
};

}  // namespace deltacal::decode
