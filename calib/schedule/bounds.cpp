#include "calib/schedule/bounds.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace deltacal::calib::schedule {
namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();
constexpr long long impossible = std::numeric_limits<long long>::max() / 4;

// loss + price * cost, and the cost itself to know on which side of the budget the minimum lies.
struct Priced {
  double value = infinite;
  long long cost = 0;
  bool operator<(const Priced& o) const { return value != o.value ? value < o.value : cost < o.cost; }
  Priced operator+(const Priced& o) const { return {value + o.value, cost + o.cost}; }
};

}  // namespace

// The least sum of price(cost, loss) over the layers from each state on, by recursion from the last layer.
template <class Value, class Price>
std::vector<Value> Bounds::shortest(const Moves& moves, Value unreachable, Price price) const {
  std::vector<Value> best((n_layers_ + 1) * n_states_, unreachable);
  const auto end = best.begin() + n_layers_ * n_states_;
  std::fill(end, best.end(), Value(price(0, 0.0)));
  for (int source = 0; source < n_layers_; ++source) best[at(n_layers_, {source, -1})] = unreachable;
  const Value full = price(moves.full_cost(), 0.0);
  for (int layer = n_layers_ - 1; layer >= 0; --layer) {
    const auto least_sparse = [&](int source, int l) {
      Value least = unreachable;
      for (const Move& move : moves.sparse(layer, source, l))
        least = std::min(least, price(move.cost, move.loss) + best[at(layer + 1, {source, l})]);
      return least;
    };
    const Value as_delta = moves.may_be_delta(layer) ? full + best[at(layer + 1, {layer, -1})] : unreachable;
    best[at(layer, {})] = std::min(as_delta, full + best[at(layer + 1, {})]);
    for (int source = 0; source < layer; ++source) {
      Value unserved = full + best[at(layer + 1, {source, -1})];
      for (int l = 0; l < n_l_; ++l) {
        const Value sparse = least_sparse(source, l);
        unserved = std::min(unserved, sparse);
        best[at(layer, {source, l})] = std::min({as_delta, full + best[at(layer + 1, {source, l})], sparse});
      }
      best[at(layer, {source, -1})] = std::min(unserved, unreachable);
    }
  }
  return best;
}

// The price at which the unconstrained minimum just meets the budget: the maximum of the concave h_x - x
// budget.
double Bounds::best_price(const Moves& moves, long long budget) const {
  const auto cost_at = [&](double x) {
    const auto price = [x](long long cost, double loss) { return Priced{loss + x * cost, cost}; };
    return shortest(moves, Priced{}, price)[at(0, {})].cost;
  };
  if (moves.largest_loss() <= 0 || cost_at(0) <= budget) return 0;
  double low = -100,
         high = 1;  // log2 of the price in units of the largest loss a position: above, cost decides
  for (int i = 0; i < 40; ++i) {
    const double middle = (low + high) / 2;
    (cost_at(moves.largest_loss() * std::exp2(middle)) > budget ? low : high) = middle;
  }
  return moves.largest_loss() * std::exp2(high);
}

Bounds::Bounds(const Moves& moves, long long budget)
    : n_layers_(moves.n_layers()),
      n_l_(moves.n_l()),
      n_states_(1 + static_cast<size_t>(moves.n_layers()) * (1 + moves.n_l())) {
  least_cost_ = shortest(moves, impossible, [](long long cost, double) { return cost; });
  prices_ = {0.0};
  if (const double best = best_price(moves, budget); best > 0) {
    prices_.push_back(best);
    for (double factor : {1.02, 1.05, 1.1, 1.2, 1.4, 1.7, 2.0, 3.0, 5.0, 10.0, 30.0}) {
      prices_.push_back(best * factor);
      prices_.push_back(best / factor);
    }
  }
  h_.resize((n_layers_ + 1) * n_states_ * prices_.size());
  for (size_t i = 0; i < prices_.size(); ++i) {
    const double x = prices_[i];
    const auto h = shortest(moves, infinite, [x](long long cost, double loss) { return loss + x * cost; });
    for (size_t state = 0; state < h.size(); ++state) h_[state * prices_.size() + i] = h[state];
  }
}

double Bounds::least_loss(int layer, State state, long long remaining) const {
  const double* h = &h_[at(layer, state) * prices_.size()];
  double bound = 0;
  for (size_t i = 0; i < prices_.size(); ++i) bound = std::max(bound, h[i] - prices_[i] * remaining);
  return bound;
}

}  // namespace deltacal::calib::schedule
