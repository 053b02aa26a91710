// Lower bounds on what the rest of a schedule must cost and lose, by Lagrangian relaxation of the budget.
//
// For a price x >= 0 of one position, h_x(state) = min over completions of (loss + x cost) is a shortest
// path, and no completion within the remaining budget r loses less than h_x(state) - x r. (Handler and Zang,
// A dual algorithm for the constrained shortest path problem, Networks 10, 1980.) The largest over a few
// prices around the best one for the whole problem is taken.
#pragma once
#include <vector>

#include "calib/schedule/moves.h"

namespace deltacal::calib::schedule {

// Where the solver stands before it decides a layer.
struct State {
  int source = -1;   // the last delta layer; -1: none yet
  int l_index = -1;  // its L; -1: it has not served a sparse layer yet
};

class Bounds {
 public:
  Bounds(const Moves&, long long budget);

  // The least cost of layers `layer`.. from `state`.
  long long least_cost(int layer, State state) const { return least_cost_[at(layer, state)]; }
  // A lower bound on the loss of layers `layer`.. when they may cost `remaining`; the state must be feasible,
  // least_cost() <= remaining.
  double least_loss(int layer, State state, long long remaining) const;

 private:
  // [n_layers + 1, 1 + n_layers * (1 + n_l)] with the states: no source; then for each source unserved and L
  size_t at(int layer, State state) const {
    const size_t column =
        state.source < 0 ? 0 : 1 + static_cast<size_t>(state.source) * (1 + n_l_) + (state.l_index + 1);
    return layer * n_states_ + column;
  }
  template <class Value, class Price>
  std::vector<Value> shortest(const Moves&, Value unreachable, Price price) const;
  double best_price(const Moves&, long long budget) const;

  int n_layers_, n_l_;
  size_t n_states_;
  std::vector<long long> least_cost_;
  std::vector<double> prices_;  // [n_prices]
  std::vector<double> h_;       // [states as above, n_prices]
};

}  // namespace deltacal::calib::schedule
