// What the solver can do at each layer, without choices that could never help.
#pragma once
#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "calib/budget.h"
#include "calib/edges.h"

namespace deltacal::calib::schedule {

// One way to make layer l sparse under the list of layer a. Costs are integers held in doubles: the cost of
// a whole schedule stays below 2^53, so that sums of them are exact.
struct Move {
  double cost = 0;
  double loss = 0;
  int k_index = 0;
};

// A finished schedule: for each layer what it is.
struct Path {
  static constexpr int full = -1, delta = -2;
  std::vector<int> choice;   // [n_layers] full, delta, or the k index of a sparse layer
  std::vector<int> l_index;  // [n_layers] of the list used by a sparse layer; otherwise -1
  std::vector<int> deltas;   // indices of the delta layers, ascending
  double cost = 0;
  double loss = 0;
  int list_k = -1;  // k index of every list; -1: each as long as needed
};

// What all sparse layers of one segment share. The solver gives each segment one mode.
struct Mode {
  int l_index = 0;
  int k_index = -1;  // -1: each layer has its own
};

// Which edges and Δ-layers may be used.
struct Allowed {
  int full_layers = 0;
  bool k_by_segment = false;
  int only_k = -1;  // index into the grid's k_pages; -1: all
  int list_k = -1;  // k index of every list, where lists serve several steps; -1: a new one at every step
  double min_recall = -1;  // lower bound of the edge's recall; negative: any, also unknown
  std::optional<std::vector<int>> delta_layers = std::nullopt;  // these alone, and each layer by the nearest
};

class Moves {
 public:
  // bad_input for a loss below 0 or infinite, and for costs of a whole schedule from 2^53 on.
  Moves(const EdgeCosts&, const LayerCosts&, const Allowed&);

  int n_layers() const { return n_layers_; }
  int n_modes() const { return static_cast<int>(modes_.size()); }
  const Mode& mode(int i) const { return modes_[i]; }
  double full_cost() const { return full_cost_; }
  double delta_cost(int layer) const { return delta_cost_[size_t(layer)]; }
  // Of the Δ-layer itself, in this mode of its segment; 0 where it is full at every step.
  double delta_loss(int source, int mode) const {
    return delta_loss_[size_t(source) * modes_.size() + size_t(mode)];
  }
  int list_k() const { return list_k_; }
  bool may_be_delta(int layer) const { return may_be_delta_[layer]; }
  // Ascending in cost, descending in loss; empty if layer l cannot use the list of a in this mode, or if
  // another mode of a does as well at every layer.
  std::span<const Move> sparse(int layer, int source, int mode) const {
    const size_t i = at(layer, source, mode);
    return std::span(moves_).subspan(first_[i], first_[i + 1] - first_[i]);
  }
  double largest_loss() const { return largest_loss_; }  // of a whole schedule, at most
  double largest_cost() const { return std::max(full_cost_, std::ranges::max(delta_cost_)) * n_layers_; }
  // The largest cost of at most `budget` that some numbers of layers of each kind add up to.
  double attainable(double budget) const;

 private:
  size_t at(int layer, int source, int mode) const {
    return (static_cast<size_t>(layer) * n_layers_ + source) * modes_.size() + mode;
  }
  void set_deltas(const Allowed&);
  void set_modes(const EdgeCosts&, const Allowed&);
  std::vector<Move> usable(const EdgeCosts&, const LayerCosts&, const Allowed&, int layer, int source,
                           const Mode&) const;
  void set_delta_losses(const EdgeCosts&);
  bool serves(int source, int layer, const Allowed&) const;
  void drop_matched_modes();
  bool matches(int source, int better, int worse) const;

  int n_layers_, list_k_;
  double full_cost_, largest_loss_ = 0;
  std::vector<double> delta_cost_;  // [n_layers]
  std::vector<Mode> modes_;
  std::vector<bool> may_be_delta_;  // [n_layers]
  std::vector<double> delta_loss_;  // [n_layers, n_modes]
  long long unit_ = 0;              // every schedule costs all_full plus a multiple of it; 0: no sparse layer
  std::vector<Move> moves_;         // those of [n_layers, n_layers source, n_modes], one after the other
  std::vector<size_t> first_;       // [n_layers * n_layers * n_modes + 1]
};

}  // namespace deltacal::calib::schedule
