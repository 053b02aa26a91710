// What the solver can do at each layer, without choices that could never help.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "calib/budget.h"
#include "calib/edges.h"

namespace deltacal::calib::schedule {

// One way to make layer l sparse under the list of layer a.
struct Move {
  long long cost = 0;
  double loss = 0;
  int k_index = 0;
};

class Moves {
 public:
  // Which edges may be used.
  struct Filter {
    int only_k = -1;         // index into the grid's k_pages; -1: all
    double min_recall = -1;  // lower bound of the edge's recall; negative: any, also unknown
  };
  Moves(const EdgeCosts&, const LayerCosts&, int full_layers, Filter);

  int n_layers() const { return n_layers_; }
  int n_l() const { return n_l_; }
  long long full_cost() const { return full_cost_; }
  bool may_be_delta(int layer) const { return layer >= full_layers_ && layer < n_layers_ - 1; }
  // Ascending in cost, descending in loss; empty if layer l cannot use the list of a with this L.
  std::span<const Move> sparse(int layer, int source, int l_index) const;
  double largest_loss() const { return largest_loss_; }  // of a whole schedule, at most

 private:
  size_t at(int layer, int source, int l_index) const {
    return (static_cast<size_t>(layer) * n_layers_ + source) * n_l_ + l_index;
  }
  int n_layers_, n_l_, full_layers_;
  long long full_cost_;
  double largest_loss_ = 0;
  std::vector<std::vector<Move>> moves_;  // [n_layers, n_layers source, n_l]
};

}  // namespace deltacal::calib::schedule
