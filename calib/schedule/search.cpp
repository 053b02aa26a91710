#include "calib/schedule/search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>
#include <tuple>

#include "calib/schedule/one_set.h"

namespace deltacal::calib::schedule {
namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();

class Search {
 public:
  Search(const Moves& moves, Goal goal, double limit, std::optional<int> n_deltas, Best& best)
      : moves_(moves),
        goal_(goal),
        limit_(limit),
        n_deltas_(n_deltas),
        relaxation_(moves, prices_for(moves, goal, limit, n_deltas), n_deltas),
        n_prices_(relaxation_.prices().size()),
        best_(best) {
    if (goal == Goal::loss && moves.largest_loss() > 0) rounding_ = 1e-12 * moves.largest_loss();
  }

  void run() {
    push_first();
    while (!queue_.empty()) {
      const auto [least, index] = queue_.top();
      queue_.pop();
      if (hopeless(sums_of(nodes_[index], before(index)))) continue;
      if (nodes_[index].last == moves_.n_layers())
        solve(index, least);
      else
        push_after(index);
    }
  }

 private:
  // The least bound first, of those equal within rounding the newest: with many ties it goes deep, not wide.
  struct Entry {
    double least = 0;
    int node = 0;
    bool operator<(const Entry& o) const { return least != o.least ? least > o.least : node < o.node; }
  };
  struct Node {
    int parent = -1;  // in nodes_
    int last = -1;    // Δ-layer; n_layers: the set is complete
    int n_deltas = 0;
  };

  Sums before(int index) const {
    const auto begin = before_.begin() + index * n_prices_;
    return {begin, begin + n_prices_};
  }
  // The least sums of schedules that begin with these Δ-layers.
  Sums sums_of(const Node& node, Sums sums) const {
    if (node.last == moves_.n_layers()) return sums;
    const auto rest = relaxation_.rest(node.last, n_deltas_ ? *n_deltas_ - node.n_deltas : 0);
    for (size_t i = 0; i < n_prices_; ++i) sums[i] += rest[i];
    return sums;
  }

  // Whether no schedule with these sums is better than the last of the best.
  bool hopeless(const Sums& sums) const {
    if (!best_.full()) return false;
    const Path& last = best_.paths().back();
    const auto& prices = relaxation_.prices();
    if (goal_ == Goal::loss) return none_better(prices, sums, {limit_, last.loss});
    return none_within(prices, sums, {moves_.attainable(last.cost - 1), limit_}) &&
           none_better(prices, sums, {last.cost, last.loss});
  }

  // `before`: the least sums of the layers before node.last.
  void push(const Node& node, const Sums& before) {
    const Sums sums = sums_of(node, before);
    const double least = bound(relaxation_.prices(), sums, goal_, limit_);
    if (least == infinite || hopeless(sums)) return;
    queue_.push({std::floor(least / rounding_) * rounding_, static_cast<int>(nodes_.size())});
    nodes_.push_back(node);
    before_.insert(before_.end(), before.begin(), before.end());
  }

  void push_first() {
    for (int first = 0; first <= moves_.n_layers(); ++first) {
      const bool complete = first == moves_.n_layers();
      if (complete ? n_deltas_.value_or(0) != 0 : !moves_.may_be_delta(first) || n_deltas_ == 0) continue;
      Sums all_full;
      for (const Price& price : relaxation_.prices())
        all_full.push_back(price.of(first * moves_.full_cost(), 0));
      push({-1, first, complete ? 0 : 1}, all_full);
    }
  }

  void push_after(int index) {
    const Node node = nodes_[index];
    const Sums before_node = before(index);
    for (int end = node.last + 2; end <= moves_.n_layers(); ++end) {
      const bool complete = end == moves_.n_layers();
      if (complete ? n_deltas_.value_or(node.n_deltas) != node.n_deltas
                   : !moves_.may_be_delta(end) || n_deltas_ == node.n_deltas)
        continue;
      Sums sums = before_node;
      const auto segment = relaxation_.segment(node.last, end);
      for (size_t i = 0; i < n_prices_; ++i) sums[i] += segment[i];
      push({index, end, node.n_deltas + !complete}, sums);
    }
  }

  // Limits just above the bound leave little to try: they grow until there is a schedule within them.
  void solve(int index, double least) {
    std::vector<int> deltas;
    for (int i = nodes_[index].parent; i >= 0; i = nodes_[i].parent) deltas.push_back(nodes_[i].last);
    std::reverse(deltas.begin(), deltas.end());
    const OneSet set(moves_, relaxation_, std::move(deltas));
    const bool by_loss = goal_ == Goal::loss;
    double most = by_loss ? moves_.largest_loss() : moves_.largest_cost();
    if (best_.full()) most = by_loss ? best_.paths().back().loss : best_.paths().back().cost;
    double gap = 1e-4 * least + (by_loss ? 1e-9 * moves_.largest_loss() : 0);
    for (double within = least;; gap *= 4) {
      within = std::min(within + gap, most);
      const auto path = set.best(goal_, by_loss ? Limits{limit_, within} : Limits{within, limit_});
      if (path) return best_.add(*path);
      if (within == most) return;
    }
  }

  const Moves& moves_;
  Goal goal_;
  double limit_;
  std::optional<int> n_deltas_;
  Relaxation relaxation_;
  size_t n_prices_;
  Best& best_;
  double rounding_ = 1;  // bounds closer than this are taken as equal
  std::priority_queue<Entry> queue_;
  std::vector<Node> nodes_;
  std::vector<double> before_;  // [nodes, n_prices]
};

}  // namespace

void Best::add(Path path) {
  const auto same = std::find_if(paths_.begin(), paths_.end(),
                                 [&](const Path& other) { return other.deltas == path.deltas; });
  if (same != paths_.end()) {
    if (!before(path, *same)) return;
    paths_.erase(same);
  }
  const auto place = std::upper_bound(paths_.begin(), paths_.end(), path,
                                      [&](const Path& a, const Path& b) { return before(a, b); });
  paths_.insert(place, std::move(path));
  if (paths_.size() > candidates_) paths_.pop_back();
}

bool Best::before(const Path& a, const Path& b) const {
  const size_t n_a = a.deltas.size(), n_b = b.deltas.size();
  return goal_ == Goal::loss ? std::tie(a.loss, a.cost, n_a) < std::tie(b.loss, b.cost, n_b)
                             : std::tie(a.cost, a.loss, n_a) < std::tie(b.cost, b.loss, n_b);
}

void search(const Moves& moves, Goal goal, double limit, std::optional<int> n_deltas, Best& best) {
  Search(moves, goal, goal == Goal::loss ? moves.attainable(limit) : limit, n_deltas, best).run();
}

void search_cheapest(const Moves& moves, std::optional<int> n_deltas, Best& best) {
  const Relaxation relaxation(moves, {Price{1, 0}, Price{0, 1}}, n_deltas);
  const double rounding = 1e-9 * moves.largest_loss();
  for (const Shortest& found : shortest(moves, {0, 1}, n_deltas, static_cast<int>(best.candidates()))) {
    const OneSet set(moves, relaxation, found.deltas);
    if (auto path = set.best(Goal::cost, {found.cost, found.loss + rounding})) best.add(std::move(*path));
  }
}

}  // namespace deltacal::calib::schedule
