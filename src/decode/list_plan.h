// Which steps of each sequence make a list at one Δ-layer whose lists serve several steps (core/refresh.h),
// from one forward pass to the next: a chunk's border resets nothing.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "config/schedule.h"

namespace deltacal::decode {

struct Rows;

class ListPlan {
 public:
  static constexpr int earlier = -1, prefilled = -2;

  // By the signal where there is one, else at the first step and at every multiple of `interval`.
  ListPlan(int interval, std::optional<config::AdaptiveRefresh> signal, int n_heads, int head_dim);

  // Decides it for the rows of a pass. query [n_rows, n_heads, head_dim] before the rotary embedding; read by
  // the signal alone. Returns whether any row makes a list.
  bool plan(const Rows&, const float* query);
  bool makes_list(int row) const { return made_by_[size_t(row)] == row; }
  // The row of this pass that makes the list in force at a row, or `earlier`, or `prefilled`: it needs none.
  int made_by(int row) const { return made_by_[size_t(row)]; }
  // The step that it was made at.
  int made_at(int row) const { return t0_[size_t(row)]; }
  int n_rows() const { return static_cast<int>(made_by_.size()); }

  // Ends the pass: the query of each sequence's last list is kept for the signal.
  void keep(const float* query);

 private:
  struct Last {
    int t0 = -1;               // the step of the last list; -1: none
    int row = earlier;         // of the pass at hand that makes it
    std::vector<float> query;  // [n_heads, head_dim] of t0, where the signal needs it
  };

  bool is_due(const Last&, int t, int first_step, const float* q, const float* queries) const;
  double mean_cosine(const float* a, const float* b) const;

  int interval_, n_heads_, head_dim_;
  std::optional<config::AdaptiveRefresh> signal_;
  std::vector<Last> last_;    // by sequence
  std::vector<int> made_by_;  // [n_rows]
  std::vector<int> t0_;       // [n_rows]
};

}  // namespace deltacal::decode
