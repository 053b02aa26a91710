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

Moves::Moves(const EdgeCosts& edges, const LayerCosts& costs, int full_layers, Filter filter)
    : n_layers_(edges.n_layers), full_layers_(full_layers), full_cost_(static_cast<double>(costs.full)) {
  if (full_cost_ * n_layers_ >= 0x1p53)
    throw bad_input("a schedule costs up to {}: too large to add up exactly; take fewer steps", full_cost_);
  for (int l = 0; l < static_cast<int>(edges.l_pages.size()); ++l) modes_.push_back({l});
  first_ = {0};
  std::vector<Move> moves;
  for (int layer = 0; layer < n_layers_; ++layer) {
    double worst = 0;
    for (int source = 0; source < n_layers_; ++source)
      for (const Mode& mode : modes_) {
        moves.clear();
        for (int k = 0; k < static_cast<int>(edges.k_pages.size()); ++k) {
          if (source < full_layers || source >= layer) break;
          const size_t edge = edges.at(layer, source, k, mode.l_index);
          const double loss = edges.loss[edge];
          if (std::isnan(loss) || edges.k_pages[k] < edges.l_pages[mode.l_index]) continue;
          if (costs.sparse[k] >= costs.full || (filter.only_k >= 0 && k != filter.only_k)) continue;
          if (filter.min_recall >= 0 && !(edges.recall_low[edge] >= filter.min_recall)) continue;
          if (!(loss >= 0 && std::isfinite(loss)))
            throw bad_input("the loss of layer {} under the list of layer {} is {}: expected 0 or more",
                            layer, source, loss);
          moves.push_back({static_cast<double>(costs.sparse[k]), loss, k});
        }
        keep_best(moves);
        if (!moves.empty()) worst = std::max(worst, moves.front().loss);
        for (const Move& move : moves) unit_ = std::gcd(unit_, costs.full - costs.sparse[move.k_index]);
        moves_.insert(moves_.end(), moves.begin(), moves.end());
        first_.push_back(moves_.size());
      }
    largest_loss_ += worst;
  }
}

double Moves::attainable(double budget) const {
  const double all_full = full_cost_ * n_layers_;
  if (budget >= all_full || unit_ == 0) return budget;
  const auto unit = static_cast<double>(unit_);
  return all_full - unit * std::ceil((all_full - budget) / unit);
}

}  // namespace deltacal::calib::schedule
