#include "calib/schedule/relaxation.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace deltacal::calib::schedule {
namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();

void least(std::span<double> of, std::span<const double> a) {
  for (size_t i = 0; i < of.size(); ++i) of[i] = std::min(of[i], a[i]);
}
void least(std::span<double> of, std::span<const double> a, std::span<const double> b) {
  for (size_t i = 0; i < of.size(); ++i) of[i] = std::min(of[i], a[i] + b[i]);
}

Price price(const Moves& moves, double per_loss, double per_cost) {
  const double largest = per_loss * moves.largest_loss() + per_cost * moves.largest_cost();
  return {per_loss, per_cost, per_loss > 0 && per_cost > 0 ? 1e-13 * largest : 0};
}

// The per_cost at which the bound on the whole problem is highest. There a schedule on one side of the limit
// and one on the other tie: begun with the cheapest and the one of least loss, the line through the two is
// followed down. Where the limit does not bind this ends beside the best schedule, which is the price that
// the next best are measured by. 0 where there is nothing to trade.
double best_per_cost(const Moves& moves, Goal goal, double limit, std::optional<int> n_deltas) {
  const auto is_cheap = [&](const Shortest& s) {
    return goal == Goal::loss ? s.cost <= limit : s.loss > limit;
  };
  const auto cheapest = shortest(moves, {0, 1}, n_deltas, 1), least = shortest(moves, {1, 0}, n_deltas, 1);
  if (cheapest.empty()) return 0;
  Shortest cheap = cheapest[0], good = least[0];
  double per_cost = 0;
  while (cheap.cost < good.cost && cheap.loss > good.loss) {
    const Price line = price(moves, 1, (cheap.loss - good.loss) / (good.cost - cheap.cost));
    per_cost = line.per_cost;
    const Shortest below = shortest(moves, line, n_deltas, 1)[0];
    if (line.of(below.cost, below.loss) >= line.of(cheap.cost, cheap.loss) - line.slack) break;
    (is_cheap(below) ? cheap : good) = below;
  }
  return per_cost;
}

}  // namespace

Relaxation::Relaxation(const Moves& moves, std::vector<Price> prices, std::optional<int> n_deltas)
    : n_layers_(moves.n_layers()),
      n_modes_(moves.n_modes()),
      n_deltas_(n_deltas),
      prices_(std::move(prices)) {
  const size_t n = n_layers_, n_prices = prices_.size();
  layer_.resize(n * n_modes_ * n * n_prices);
  segment_.assign(n * (n + 1) * n_prices, infinite);
  rest_.assign(std::max(1, n_deltas.value_or(1)) * n * n_prices, infinite);
  for (int source = 0; source < n_layers_; ++source)
    if (moves.may_be_delta(source)) add_segments(moves, source);
  add_rest(moves);
}

std::span<const double> Relaxation::layer(int layer, int source, int mode) const {
  return row(layer_, (static_cast<size_t>(source) * n_modes_ + mode) * n_layers_ + layer);
}
std::span<const double> Relaxation::segment(int source, int end) const {
  return row(segment_, static_cast<size_t>(source) * (n_layers_ + 1) + end);
}
std::span<const double> Relaxation::rest(int source, int left) const {
  return row(rest_, static_cast<size_t>(left) * n_layers_ + source);
}

void Relaxation::add_segments(const Moves& moves, int source) {
  const size_t n_prices = prices_.size();
  Sums sum(n_prices), sparse(n_prices),
      serve(n_prices);  // serve: what it takes to have a sparse layer at all
  for (int mode = 0; mode < n_modes_; ++mode) {
    for (size_t i = 0; i < n_prices; ++i)
      sum[i] = prices_[i].of(moves.delta_cost(source), moves.delta_loss(source, mode));
    std::fill(serve.begin(), serve.end(), infinite);
    for (int l = source + 1; l < n_layers_; ++l) {
      std::fill(sparse.begin(), sparse.end(), infinite);
      for (const Move& move : moves.sparse(l, source, mode))
        for (size_t i = 0; i < n_prices; ++i)
          sparse[i] = std::min(sparse[i], prices_[i].of(move.cost, move.loss));
      double* layer = &layer_[((static_cast<size_t>(source) * n_modes_ + mode) * n_layers_ + l) * n_prices];
      double* segment = &segment_[(static_cast<size_t>(source) * (n_layers_ + 1) + l + 1) * n_prices];
      for (size_t i = 0; i < n_prices; ++i) {
        layer[i] = std::min(sparse[i], prices_[i].of(moves.full_cost(), 0));
        sum[i] += layer[i];
        serve[i] = std::min(serve[i], sparse[i] - layer[i]);
        segment[i] = std::min(segment[i], sum[i] + serve[i]);
      }
    }
  }
}

void Relaxation::add_rest(const Moves& moves) {
  const size_t n_prices = prices_.size();
  for (int left = 0; left < std::max(1, n_deltas_.value_or(1)); ++left)
    for (int source = n_layers_ - 1; source >= 0; --source) {
      const auto here =
          std::span(rest_).subspan((static_cast<size_t>(left) * n_layers_ + source) * n_prices, n_prices);
      if (left == 0) least(here, segment(source, n_layers_));
      if (left == 0 && n_deltas_) continue;
      for (int end = source + 1; end < n_layers_; ++end)
        if (moves.may_be_delta(end)) least(here, segment(source, end), rest(end, n_deltas_ ? left - 1 : 0));
    }
}

std::vector<Price> prices_for(const Moves& moves, Goal goal, double limit, std::optional<int> n_deltas) {
  std::vector<Price> prices{price(moves, 1, 0), price(moves, 0, 1)};
  const double best = best_per_cost(moves, goal, limit, n_deltas);
  if (best == 0) return prices;
  for (double factor : {1.0, 1.01, 1.03, 1.07, 1.15, 1.3, 1.6, 2.5, 5.0, 20.0}) {
    prices.push_back(price(moves, 1, best * factor));
    if (factor > 1) prices.push_back(price(moves, 1, best / factor));
  }
  return prices;
}

double bound(std::span<const Price> prices, std::span<const double> sums, Goal goal, double limit) {
  double least = 0;
  for (size_t i = 0; i < prices.size(); ++i) {
    const double limited = goal == Goal::loss ? prices[i].per_cost : prices[i].per_loss;
    const double wanted = goal == Goal::loss ? prices[i].per_loss : prices[i].per_cost;
    const double above = sums[i] - limited * limit;
    if (wanted > 0)
      least = std::max(least, above / wanted);
    else if (above > prices[i].slack)
      return infinite;
  }
  return least;
}

bool none_within(std::span<const Price> prices, std::span<const double> sums, Limits limits) {
  for (size_t i = 0; i < prices.size(); ++i)
    if (sums[i] > prices[i].of(limits.cost, limits.loss) + prices[i].slack) return true;
  return false;
}

bool none_better(std::span<const Price> prices, std::span<const double> sums, Limits limits) {
  for (size_t i = 0; i < prices.size(); ++i)
    if (prices[i].per_loss > 0 && sums[i] >= prices[i].of(limits.cost, limits.loss) - prices[i].slack)
      return true;
  return none_within(prices, sums, limits);
}

}  // namespace deltacal::calib::schedule
