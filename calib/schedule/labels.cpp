#include "calib/schedule/labels.h"

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <limits>
#include <map>
#include <tuple>
#include <utility>

#include "calib/schedule/bounds.h"

namespace deltacal::calib::schedule {
namespace {

struct Label {
  long long cost = 0;
  double loss = 0;
  int parent = -1;   // in the arena
  int set = 0;       // number of its set of Δ-layers
  short choice = 0;  // as in Path
  short l_index = -1;
  short n_deltas = 0;
};

bool by_cost(const Label& a, const Label& b) {
  return std::tie(a.cost, a.loss, a.n_deltas, a.set) < std::tie(b.cost, b.loss, b.n_deltas, b.set);
}
bool by_loss(const Label& a, const Label& b) {
  return std::tie(a.loss, a.cost, a.n_deltas, a.set) < std::tie(b.loss, b.cost, b.n_deltas, b.set);
}

// Sets of Δ-layers by number, so that equal sets are equal numbers.
class Sets {
 public:
  int with(int set, int layer) {
    return numbers_.try_emplace({set, layer}, static_cast<int>(numbers_.size()) + 1).first->second;
  }

 private:
  std::map<std::pair<int, int>, int> numbers_;  // 0 is the empty set
};

// The first rules of labels.h: which labels of one state can still matter.
class Dominance {
 public:
  explicit Dominance(int candidates) : candidates_(candidates) {}

  // Keeps labels that fewer than `candidates` other sets and none of their own set beat in cost and loss.
  void pareto(std::vector<Label>& labels) {
    std::sort(labels.begin(), labels.end(), by_cost);
    least_.clear();
    std::erase_if(labels, [&](const Label& label) { return !improves(label); });
  }

  // Keeps the best label of each of the first `candidates` sets in the given order.
  template <class Order>
  void first_sets(std::vector<Label>& labels, Order order) {
    std::sort(labels.begin(), labels.end(), order);
    least_.clear();
    std::erase_if(labels, [&](const Label& label) {
      if (least_.size() == candidates_ || own(label) != least_.end()) return true;
      least_.push_back({label.loss, label.set});
      return false;
    });
  }

 private:
  using Least = std::vector<std::pair<double, int>>;  // loss and set, ascending in loss, at most `candidates`
  Least::iterator own(const Label& label) {
    return std::find_if(least_.begin(), least_.end(), [&](const auto& e) { return e.second == label.set; });
  }
  bool improves(const Label& label) {
    if (least_.size() == candidates_ && label.loss >= least_.back().first) return false;
    if (const auto mine = own(label); mine != least_.end()) {
      if (mine->first <= label.loss) return false;
      least_.erase(mine);
    } else if (least_.size() == candidates_) {
      least_.pop_back();
    }
    const auto place = std::upper_bound(least_.begin(), least_.end(), label.loss,
                                        [](double loss, const auto& e) { return loss < e.first; });
    least_.insert(place, {label.loss, label.set});
    return true;
  }
  size_t candidates_;
  Least least_;
};

// One pass over the layers.
class Search {
 public:
  enum class Goal { loss, cost };
  // `bounds` null: no budget and no threshold.
  Search(const Moves& moves, int candidates, Goal goal, const Bounds* bounds, long long budget,
         double threshold)
      : moves_(moves),
        goal_(goal),
        bounds_(bounds),
        budget_(budget),
        threshold_(threshold),
        n_states_(1 + static_cast<size_t>(moves.n_layers()) * (1 + moves.n_l())),
        dominance_(candidates),
        now_(n_states_),
        next_(n_states_) {}

  std::vector<Path> run() {
    labels(now_, {}).push_back({});
    arena_.push_back({});
    for (int layer = 0; layer < moves_.n_layers(); ++layer) {
      extend(layer);
      settle(layer);
    }
    return finish();
  }
  bool above_threshold() const { return above_threshold_; }  // whether the threshold dropped a label

 private:
  struct Bucket {
    std::vector<Label> labels;
    int first = 0;  // index of labels[0] in the arena
  };
  using Buckets = std::vector<Bucket>;

  size_t column(State state) const {
    return state.source < 0 ? 0
                            : 1 + static_cast<size_t>(state.source) * (1 + moves_.n_l()) + state.l_index + 1;
  }
  std::vector<Label>& labels(Buckets& buckets, State state) { return buckets[column(state)].labels; }

  void extend(int layer) {
    from(layer, {});
    for (int source = 0; source < layer; ++source)
      for (int l = -1; l < moves_.n_l(); ++l) from(layer, {source, l});
  }

  void from(int layer, State state) {
    const Bucket& bucket = now_[column(state)];
    if (bucket.labels.empty()) return;
    append(layer, bucket, state, {moves_.full_cost(), 0.0, Path::full});
    if (const bool served = state.source < 0 || state.l_index >= 0; served && moves_.may_be_delta(layer))
      append(layer, bucket, {layer, -1}, {moves_.full_cost(), 0.0, Path::delta});
    if (state.source < 0) return;
    const int first = state.l_index < 0 ? 0 : state.l_index;
    const int end = state.l_index < 0 ? moves_.n_l() : first + 1;
    for (int l = first; l < end; ++l)
      for (const Move& move : moves_.sparse(layer, state.source, l))
        append(layer, bucket, {state.source, l}, move);
  }

  // Every label of a bucket with one more layer, as far as a completion can matter.
  void append(int layer, const Bucket& bucket, State to, const Move& move) {
    auto& out = labels(next_, to);
    int index = bucket.first;
    for (const Label& label : bucket.labels) {
      Label longer{label.cost + move.cost,
                   label.loss + move.loss,
                   index++,
                   label.set,
                   static_cast<short>(move.k_index),
                   static_cast<short>(move.k_index >= 0 ? to.l_index : -1),
                   label.n_deltas};
      if (!worth(layer + 1, to, longer)) continue;
      if (move.k_index == Path::delta) {
        longer.set = sets_.with(label.set, layer);
        ++longer.n_deltas;
      }
      out.push_back(longer);
    }
  }

  bool worth(int layer, State state, const Label& label) {
    if (!bounds_) return true;
    const long long remaining = budget_ - label.cost;
    if (bounds_->least_cost(layer, state) > remaining) return false;
    if (label.loss + bounds_->least_loss(layer, state, remaining) <= threshold_) return true;
    above_threshold_ = true;
    return false;
  }

  void settle(int layer) {
    for (auto& bucket : now_) bucket.labels.clear();
    std::swap(now_, next_);
    for (size_t c = 0; c < 1 + static_cast<size_t>(layer + 1) * (1 + moves_.n_l()); ++c) {
      auto& bucket = now_[c];
      if (goal_ == Goal::loss)
        dominance_.pareto(bucket.labels);
      else
        dominance_.first_sets(bucket.labels, by_cost);
      bucket.first = static_cast<int>(arena_.size());
      arena_.insert(arena_.end(), bucket.labels.begin(), bucket.labels.end());
    }
  }

  std::vector<Path> finish() {
    std::vector<Label> ends;
    for (size_t c = 0; c < n_states_; ++c) {
      const bool unserved = c > 0 && (c - 1) % (1 + moves_.n_l()) == 0;
      if (unserved) continue;
      int index = now_[c].first;
      for (Label label : now_[c].labels) {
        label.parent = index++;  // itself
        ends.push_back(label);
      }
    }
    if (goal_ == Goal::loss)
      dominance_.first_sets(ends, by_loss);
    else
      dominance_.first_sets(ends, by_cost);
    std::vector<Path> paths;
    for (const Label& end : ends) paths.push_back(trace(end));
    return paths;
  }

  Path trace(const Label& end) const {
    Path path;
    path.cost = end.cost;
    path.loss = end.loss;
    for (int i = end.parent; i > 0; i = arena_[i].parent) {
      path.choice.push_back(arena_[i].choice);
      path.l_index.push_back(arena_[i].l_index);
    }
    std::reverse(path.choice.begin(), path.choice.end());
    std::reverse(path.l_index.begin(), path.l_index.end());
    return path;
  }

  const Moves& moves_;
  Goal goal_;
  const Bounds* bounds_;
  long long budget_;
  double threshold_;
  size_t n_states_;
  Dominance dominance_;
  Sets sets_;
  Buckets now_, next_;
  std::vector<Label> arena_;  // all labels kept, for the way back; the root is 0
  bool above_threshold_ = false;
};

}  // namespace

std::vector<int> Path::deltas() const {
  std::vector<int> layers;
  for (size_t layer = 0; layer < choice.size(); ++layer)
    if (choice[layer] == delta) layers.push_back(static_cast<int>(layer));
  return layers;
}

std::vector<Path> least_loss(const Moves& moves, long long budget, int candidates) {
  const Bounds bounds(moves, budget);
  if (bounds.least_cost(0, {}) > budget) return {};
  const double relaxed = bounds.least_loss(0, {}, budget);
  const double slack = 1e-9 * moves.largest_loss();
  double gap = 1e-3 * relaxed + 1e-6 * moves.largest_loss();
  for (;; gap *= 3) {  // what is found lies below the threshold, and what was dropped above it
    Search search(moves, candidates, Search::Goal::loss, &bounds, budget, relaxed + gap + slack);
    auto paths = search.run();
    if (paths.size() == static_cast<size_t>(candidates) || !search.above_threshold()) return paths;
  }
}

std::vector<Path> least_cost(const Moves& moves, int candidates) {
  return Search(moves, candidates, Search::Goal::cost, nullptr, 0, 0).run();
}

}  // namespace deltacal::calib::schedule
