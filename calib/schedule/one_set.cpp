#include "calib/schedule/one_set.h"

#include <algorithm>
#include <limits>
#include <tuple>

namespace deltacal::calib::schedule {
namespace {

struct Label {
  double cost = 0, loss = 0;
  int parent = -1;   // in the arena
  short choice = 0;  // as in Path
  short mode = 0;
};

bool by_cost(const Label& a, const Label& b) {
  return std::tie(a.cost, a.loss) < std::tie(b.cost, b.loss);
}
bool by_loss(const Label& a, const Label& b) {
  return std::tie(a.loss, a.cost) < std::tie(b.loss, b.cost);
}

void keep_pareto(std::vector<Label>& labels) {
  std::sort(labels.begin(), labels.end(), by_cost);
  double least = std::numeric_limits<double>::infinity();
  std::erase_if(labels, [&](const Label& label) {
    if (label.loss >= least) return true;
    least = label.loss;
    return false;
  });
}

// One pass over the layers. Bucket n_modes holds labels whose segment has no sparse layer yet.
class Pass {
 public:
  Pass(const Moves& moves, const Relaxation& relaxation, const OneSet& set, Limits limits)
      : moves_(moves), set_(set), limits_(limits), now_(moves.n_modes() + 1), next_(moves.n_modes() + 1) {
    for (const Price& price : relaxation.prices())
      most_.push_back(price.of(limits.cost, limits.loss) + price.slack);
    prices_ = relaxation.prices();
  }

  std::optional<Path> run(Goal goal) {
    now_.back().push_back({});
    for (int layer = 0; layer < moves_.n_layers(); ++layer) {
      if (set_.source(layer) == layer)
        begin_segment(layer);
      else
        extend(layer);
      settle();
    }
    return finish(goal);
  }

 private:
  void extend(int layer) {
    const int source = set_.source(layer), unserved = moves_.n_modes();
    for (int mode = 0; mode <= unserved; ++mode)
      append(layer, mode, mode, {moves_.full_cost(), 0, Path::full});
    if (source < 0) return;
    for (int mode = 0; mode < unserved; ++mode)
      for (const Move& move : moves_.sparse(layer, source, mode)) {
        append(layer, mode, mode, move);
        // Now the list's L is known, and with it what the Δ-layer itself loses.
        append(layer, unserved, mode, {move.cost, move.loss + moves_.delta_loss(source, mode), move.k_index});
      }
  }

  // Labels of every mode go on with none; but a Δ-layer before this one must have served.
  void begin_segment(int layer) {
    const bool first = layer == set_.deltas().front();
    const int unserved = moves_.n_modes();
    for (int mode = first ? unserved : 0; mode < (first ? unserved + 1 : unserved); ++mode)
      append(layer, mode, unserved, {moves_.delta_cost(layer), 0, Path::delta});
  }

  // Every label of mode `from` with one more layer, as far as a completion within the limits is possible.
  void append(int layer, int from, int to, const Move& move) {
    const auto rest = set_.rest(layer + 1, to);
    int index = first_index(from);
    for (const Label& label : now_[from]) {
      const Label longer{label.cost + move.cost, label.loss + move.loss, index++,
                         static_cast<short>(move.k_index), static_cast<short>(to)};
      if (may_end_within(longer, rest)) next_[to].push_back(longer);
    }
  }

  // The price that ruled out the last label is asked first.
  bool may_end_within(const Label& label, std::span<const double> rest) {
    const auto above = [&](size_t i) { return prices_[i].of(label.cost, label.loss) + rest[i] > most_[i]; };
    if (above(last_)) return false;
    for (size_t i = 0; i < prices_.size(); ++i)
      if (above(i)) {
        last_ = i;
        return false;
      }
    return true;
  }

  int first_index(int mode) const { return first_.empty() ? 0 : first_[mode]; }

  void settle() {
    std::swap(now_, next_);
    first_.clear();
    if (arena_.empty()) arena_.push_back({});  // the root
    for (size_t mode = 0; mode < now_.size(); ++mode) {
      next_[mode].clear();
      keep_pareto(now_[mode]);
      first_.push_back(static_cast<int>(arena_.size()));
      arena_.insert(arena_.end(), now_[mode].begin(), now_[mode].end());
    }
  }

  std::optional<Path> finish(Goal goal) const {
    const Label* best = nullptr;
    for (size_t mode = 0; mode < now_.size(); ++mode) {
      const bool unserved = mode + 1 == now_.size();
      if (unserved != set_.deltas().empty()) continue;
      for (const Label& label : now_[mode]) {
        if (label.cost > limits_.cost || label.loss > limits_.loss) continue;
        if (!best || (goal == Goal::loss ? by_loss(label, *best) : by_cost(label, *best))) best = &label;
      }
    }
    if (!best) return std::nullopt;
    return path_to(*best);
  }

  Path path_to(const Label& end) const {
    Path path{{}, {}, set_.deltas(), end.cost, end.loss, moves_.list_k()};
    const Label* label = &end;
    for (int layer = 0; layer < moves_.n_layers(); ++layer, label = &arena_[label->parent]) {
      path.choice.push_back(label->choice);
      path.l_index.push_back(label->choice >= 0 ? moves_.mode(label->mode).l_index : -1);
    }
    std::reverse(path.choice.begin(), path.choice.end());
    std::reverse(path.l_index.begin(), path.l_index.end());
    return path;
  }

  const Moves& moves_;
  const OneSet& set_;
  Limits limits_;
  std::vector<Price> prices_;
  std::vector<double> most_;                    // [n_prices] the largest sum within the limits
  size_t last_ = 0;                             // price
  std::vector<std::vector<Label>> now_, next_;  // [n_modes + 1]
  std::vector<int> first_;                      // [n_modes + 1] index of now_[mode][0] in the arena
  std::vector<Label> arena_;                    // all labels kept, for the way back; the root is 0
};

}  // namespace

OneSet::OneSet(const Moves& moves, const Relaxation& relaxation, std::vector<int> deltas)
    : moves_(moves),
      relaxation_(relaxation),
      deltas_(std::move(deltas)),
      n_modes_(moves.n_modes()),
      n_prices_(relaxation.prices().size()),
      source_(moves.n_layers(), -1),
      rest_((moves.n_layers() + 1) * (n_modes_ + 1) * n_prices_) {
  for (int delta : deltas_) std::fill(source_.begin() + delta, source_.end(), delta);
  add_rest();
}

void OneSet::add_rest() {
  const auto& prices = relaxation_.prices();
  for (int layer = moves_.n_layers() - 1; layer >= 0; --layer) {
    const int source = source_[layer];
    double* unserved = &rest_[(layer * (n_modes_ + 1) + n_modes_) * n_prices_];
    const auto unserved_after = rest(layer + 1, static_cast<int>(n_modes_));
    const double cost = source == layer ? moves_.delta_cost(layer) : moves_.full_cost();
    for (size_t i = 0; i < n_prices_; ++i) unserved[i] = prices[i].of(cost, 0) + unserved_after[i];
    for (int mode = 0; mode < static_cast<int>(n_modes_); ++mode) {
      double* here = &rest_[(layer * (n_modes_ + 1) + mode) * n_prices_];
      if (source < 0 || source == layer) {
        std::copy_n(unserved, n_prices_, here);
        continue;
      }
      const auto after = rest(layer + 1, mode), own = relaxation_.layer(layer, source, mode);
      for (size_t i = 0; i < n_prices_; ++i) {
        here[i] = own[i] + after[i];
        unserved[i] = std::min(unserved[i], prices[i].of(0, moves_.delta_loss(source, mode)) + here[i]);
      }
    }
  }
}

std::optional<Path> OneSet::best(Goal goal, Limits limits) const {
  return Pass(moves_, relaxation_, *this, limits).run(goal);
}

}  // namespace deltacal::calib::schedule
