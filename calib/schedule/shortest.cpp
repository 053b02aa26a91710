#include "calib/schedule/shortest.h"

#include <algorithm>
#include <limits>
#include <tuple>

namespace deltacal::calib::schedule {
namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();

struct Sum {
  double priced = infinite, cost = 0, loss = 0;
  bool operator<(const Sum& o) const {
    return std::tie(priced, cost, loss) < std::tie(o.priced, o.cost, o.loss);
  }
  Sum operator+(const Sum& o) const { return {priced + o.priced, cost + o.cost, loss + o.loss}; }
  Sum operator-(const Sum& o) const { return {priced - o.priced, cost - o.cost, loss - o.loss}; }
};

// One set of Δ-layers before some layer.
struct Start {
  Sum sum;
  std::vector<int> deltas;
  bool operator<(const Start& o) const {
    return std::tuple(sum.priced, sum.cost, sum.loss, deltas.size()) <
           std::tuple(o.sum.priced, o.sum.cost, o.sum.loss, o.deltas.size());
  }
};

class Paths {
 public:
  Paths(const Moves& moves, const Price& price, std::optional<int> n_deltas, size_t candidates)
      : moves_(moves), price_(price), n_deltas_(n_deltas), candidates_(candidates) {
    const int n_layers = moves.n_layers();
    starts_.resize(n_deltas.value_or(0) + 1, std::vector<std::vector<Start>>(n_layers + 1));
    for (int source = 0; source < n_layers; ++source) segments_.push_back(segments_of(source));
    for (int end = 0; end <= n_layers; ++end)
      if (end == n_layers || moves.may_be_delta(end))
        for (int count = 0; count < static_cast<int>(starts_.size()); ++count) fill(end, count);
  }
  const std::vector<Start>& complete() const { return starts_.back().back(); }

 private:
  Sum sum(double cost, double loss) const { return {price_.of(cost, loss), cost, loss}; }

  // [end - source - 1]: Δ-layer `source` and the layers up to end - 1, one of them sparse at least.
  std::vector<Sum> segments_of(int source) const {
    std::vector<Sum> best(moves_.n_layers() - source);
    if (!moves_.may_be_delta(source)) return best;
    for (int mode = 0; mode < moves_.n_modes(); ++mode) {
      Sum total = sum(moves_.delta_cost(source), moves_.delta_loss(source, mode)),
          serve;  // serve: what it takes to have a sparse layer at all
      for (int layer = source + 1; layer < moves_.n_layers(); ++layer) {
        Sum sparse;
        for (const Move& move : moves_.sparse(layer, source, mode))
          sparse = std::min(sparse, sum(move.cost, move.loss));
        const Sum least = std::min(sparse, sum(moves_.full_cost(), 0));
        total = total + least;
        serve = std::min(serve, sparse - least);
        best[layer - source] = std::min(best[layer - source], total + serve);
      }
    }
    return best;
  }

  // The best before `end`; of those with `count` Δ-layers, where they are counted.
  void fill(int end, int count) {
    auto& here = starts_[count][end];
    if (count == 0) here.push_back({sum(end * moves_.full_cost(), 0), {}});
    const int before = n_deltas_ ? count - 1 : 0;
    for (int source = 0; source < end && before >= 0; ++source) {
      const Sum& segment = segments_[source][end - source - 1];
      if (segment.priced == infinite) continue;
      for (const Start& start : starts_[before][source]) {
        here.push_back({start.sum + segment, start.deltas});
        here.back().deltas.push_back(source);
      }
    }
    std::stable_sort(here.begin(), here.end());
    if (here.size() > candidates_) here.resize(candidates_);
  }

  const Moves& moves_;
  Price price_;
  std::optional<int> n_deltas_;
  size_t candidates_;
  std::vector<std::vector<Sum>> segments_;               // [n_layers source][end - source - 1]
  std::vector<std::vector<std::vector<Start>>> starts_;  // [n_deltas + 1 or 1][n_layers + 1 end]
};

}  // namespace

std::vector<Shortest> shortest(const Moves& moves, const Price& price, std::optional<int> n_deltas,
                               int candidates) {
  const Paths paths(moves, price, n_deltas, candidates);
  std::vector<Shortest> found;
  for (const Start& start : paths.complete()) found.push_back({start.deltas, start.sum.cost, start.sum.loss});
  return found;
}

}  // namespace deltacal::calib::schedule
