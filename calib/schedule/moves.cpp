#include "calib/schedule/moves.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/error.h"

namespace deltacal::calib::schedule {
namespace {

// Those of one edge that no other beats in both cost and loss.
void keep_best(std::vector<Move>& moves) {
  std::sort(moves.begin(), moves.end(), [](const Move& a, const Move& b) {
    return a.cost != b.cost ? a.cost < b.cost : a.loss != b.loss ? a.loss < b.loss : a.k_index < b.k_index;
  });
  double least = std::numeric_limits<double>::infinity();
  std::erase_if(moves, [&](const Move& move) {
    if (move.loss >= least) return true;
    least = move.loss;
    return false;
  });
}

}  // namespace

Moves::Moves(const EdgeCosts& edges, const LayerCosts& costs, const Allowed& allowed)
    : n_layers_(edges.n_layers),
      list_k_(allowed.list_k),
      full_cost_(static_cast<double>(costs.full)),
      first_{0} {
  for (int layer = 0; layer < n_layers_; ++layer)
    delta_cost_.push_back(static_cast<double>(list_k_ < 0 ? costs.delta : costs.listed[layer][list_k_]));
  if (largest_cost() >= 0x1p53)
    throw bad_input("a schedule costs up to {}: too large to add up exactly; take fewer steps",
                    largest_cost());
  set_deltas(allowed);
  for (int layer = 0; layer < n_layers_; ++layer)
    if (may_be_delta_[layer])
      unit_ = std::gcd(unit_, static_cast<long long>(full_cost_ - delta_cost_[layer]));
  set_modes(edges, allowed);
  set_delta_losses(edges);
  for (int layer = 0; layer < n_layers_; ++layer) {
    double worst = 0;  // sparse or a Δ-layer
    for (int mode = 0; mode < n_modes(); ++mode) worst = std::max(worst, delta_loss(layer, mode));
    for (int source = 0; source < n_layers_; ++source)
      for (const Mode& mode : modes_) {
        if (serves(source, layer, allowed)) {
          const auto moves = usable(edges, costs, allowed, layer, source, mode);
          if (!moves.empty()) worst = std::max(worst, moves.front().loss);
          moves_.insert(moves_.end(), moves.begin(), moves.end());
        }
        first_.push_back(moves_.size());
      }
    largest_loss_ += worst;
  }
  drop_matched_modes();
}

// Whether at every layer each move of mode `worse` has one of `better` that costs and loses no more, and the
// Δ-layer itself loses no more: then whatever is served in `worse` can be served in `better`.
bool Moves::matches(int source, int better, int worse) const {
  if (!(delta_loss(source, better) <= delta_loss(source, worse))) return false;
  for (int layer = source + 1; layer < n_layers_; ++layer) {
    const auto moves = sparse(layer, source, better);
    for (const Move& move : sparse(layer, source, worse))
      if (std::none_of(moves.begin(), moves.end(),
                       [&](const Move& m) { return m.cost <= move.cost && m.loss <= move.loss; }))
        return false;
  }
  return true;
}

// Modes that only repeat what another one offers multiply the work by their number: k of equal loss where a
// segment shares one, or L that make no difference. Of equal modes the first stays.
void Moves::drop_matched_modes() {
  const size_t n = modes_.size();
  std::vector<bool> dropped(n_layers_ * n);
  for (int source = 0; source < n_layers_; ++source)
    for (size_t mode = 0; mode < n; ++mode)
      for (size_t other = 0; other < n && !dropped[source * n + mode]; ++other)
        dropped[source * n + mode] =
            other != mode && !dropped[source * n + other] && matches(source, other, mode);
  std::vector<Move> kept;
  std::vector<size_t> first{0};
  for (int layer = 0; layer < n_layers_; ++layer)
    for (int source = 0; source < n_layers_; ++source)
      for (size_t mode = 0; mode < n; ++mode) {
        const auto moves = sparse(layer, source, static_cast<int>(mode));
        if (!dropped[source * n + mode]) kept.insert(kept.end(), moves.begin(), moves.end());
        first.push_back(kept.size());
      }
  moves_ = std::move(kept);
  first_ = std::move(first);
  // Of those that are left alone: the coarser the unit, the closer the bounds come to what can be had.
  for (const Move& move : moves_) unit_ = std::gcd(unit_, static_cast<long long>(full_cost_ - move.cost));
}

void Moves::set_deltas(const Allowed& allowed) {
  may_be_delta_.assign(n_layers_, false);
  if (allowed.delta_layers)
    for (int layer : *allowed.delta_layers) may_be_delta_[layer] = true;
  else  // the last layer has none to serve
    for (int layer = allowed.full_layers; layer < n_layers_ - 1; ++layer) may_be_delta_[layer] = true;
}

void Moves::set_modes(const EdgeCosts& edges, const Allowed& allowed) {
  const int n_k = static_cast<int>(edges.k_pages.size());
  for (int l = 0; l < static_cast<int>(edges.l_pages.size()); ++l) {
    if (!allowed.k_by_segment) modes_.push_back({l, -1});
    for (int k = 0; allowed.k_by_segment && k < n_k; ++k)
      if (edges.k_pages[k] >= edges.l_pages[l]) modes_.push_back({l, k});
  }
}

// 0 also where it is unknown: usable() has no moves there.
void Moves::set_delta_losses(const EdgeCosts& edges) {
  delta_loss_.assign(static_cast<size_t>(n_layers_) * modes_.size(), 0);
  for (int layer = 0; list_k_ >= 0 && layer < n_layers_; ++layer)
    for (int mode = 0; mode < n_modes(); ++mode) {
      const double loss = edges.loss[edges.at(layer, layer, list_k_, modes_[mode].l_index)];
      if (std::isnan(loss)) continue;
      if (!(loss >= 0 && std::isfinite(loss)))
        throw bad_input("the loss of layer {} between its lists is {}: expected 0 or more", layer, loss);
      delta_loss_[static_cast<size_t>(layer) * modes_.size() + mode] = loss;
    }
}

bool Moves::serves(int source, int layer, const Allowed& allowed) const {
  if (source >= layer || !may_be_delta_[source]) return false;
  if (!allowed.delta_layers) return true;
  return std::none_of(may_be_delta_.begin() + source + 1, may_be_delta_.begin() + layer + 1,
                      [](bool is_delta) { return is_delta; });
}

std::vector<Move> Moves::usable(const EdgeCosts& edges, const LayerCosts& costs, const Allowed& allowed,
                                int layer, int source, const Mode& mode) const {
  std::vector<Move> moves;
  if (list_k_ >= 0 && std::isnan(edges.loss[edges.at(source, source, list_k_, mode.l_index)])) return moves;
  for (int k = 0; k < static_cast<int>(edges.k_pages.size()); ++k) {
    if (list_k_ >= 0 && k > list_k_) break;
    const size_t edge = edges.at(layer, source, k, mode.l_index);
    const double loss = edges.loss[edge];
    if (std::isnan(loss) || edges.k_pages[k] < edges.l_pages[mode.l_index]) continue;
    if (costs.sparse[k] >= costs.full || (allowed.only_k >= 0 && k != allowed.only_k)) continue;
    if (mode.k_index >= 0 && k != mode.k_index) continue;
    if (allowed.min_recall >= 0 && !(edges.recall_low[edge] >= allowed.min_recall)) continue;
    if (!(loss >= 0 && std::isfinite(loss)))
      throw bad_input("the loss of layer {} under the list of layer {} is {}: expected 0 or more", layer,
                      source, loss);
    moves.push_back({static_cast<double>(costs.sparse[k]), loss, k});
  }
  keep_best(moves);
  return moves;
}

double Moves::attainable(double budget) const {
  const double all_full = full_cost_ * n_layers_;
  if (unit_ == 0) return budget;
  const auto unit = static_cast<double>(unit_);
  return all_full - unit * std::ceil((all_full - budget) / unit);
}

}  // namespace deltacal::calib::schedule
