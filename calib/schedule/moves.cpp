#include "calib/schedule/moves.h"

#include <algorithm>
#include <cmath>

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
    : n_layers_(edges.n_layers),
      n_l_(static_cast<int>(edges.l_pages.size())),
      full_layers_(full_layers),
      full_cost_(costs.full),
      moves_(static_cast<size_t>(n_layers_) * n_layers_ * n_l_) {
  for (int layer = 0; layer < n_layers_; ++layer) {
    double worst = 0;
    for (int source = full_layers; source < layer; ++source)
      for (int l = 0; l < n_l_; ++l) {
        auto& moves = moves_[at(layer, source, l)];
        for (int k = 0; k < static_cast<int>(edges.k_pages.size()); ++k) {
          const size_t edge = edges.at(layer, source, k, l);
          const double loss = edges.loss[edge];
          if (std::isnan(loss) || edges.k_pages[k] < edges.l_pages[l] || costs.sparse[k] >= costs.full)
            continue;
          if (filter.only_k >= 0 && k != filter.only_k) continue;
          if (filter.min_recall >= 0 && !(edges.recall_low[edge] >= filter.min_recall)) continue;
          if (!(loss >= 0 && std::isfinite(loss)))
            throw bad_input("the loss of layer {} under the list of layer {} is {}: expected 0 or more",
                            layer, source, loss);
          moves.push_back({costs.sparse[k], loss, k});
        }
        keep_best(moves);
        if (!moves.empty()) worst = std::max(worst, moves.front().loss);
      }
    largest_loss_ += worst;
  }
}

std::span<const Move> Moves::sparse(int layer, int source, int l_index) const {
  return moves_[at(layer, source, l_index)];
}

}  // namespace deltacal::calib::schedule
