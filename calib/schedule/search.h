// The best sets of Δ-layers, each with its best k and L.
//
// Sets are grown one Δ-layer at a time, always the one whose relaxation (relaxation.h) promises most (A*), so
// that complete sets come up in the order of their bounds. The best schedule of each is found exactly
// (one_set.h), until the next bound is no better than the last of the candidates found.
#pragma once
#include <optional>

#include "calib/schedule/relaxation.h"

namespace deltacal::calib::schedule {

// The best paths so far, each with another set of Δ-layers: best first by (loss, cost, number of Δ-layers),
// for Goal::cost by (cost, loss, number of Δ-layers).
class Best {
 public:
  Best(Goal goal, int candidates) : goal_(goal), candidates_(candidates) {}
  void add(Path);
  size_t candidates() const { return candidates_; }
  bool full() const { return paths_.size() == candidates_; }
  const std::vector<Path>& paths() const { return paths_; }

 private:
  bool before(const Path&, const Path&) const;
  Goal goal_;
  size_t candidates_;
  std::vector<Path> paths_;
};

// Adds the best schedules whose cost (Goal::loss) or loss (Goal::cost) is at most `limit`; with exactly
// `n_deltas` Δ-layers if given. Of several that tie within rounding for the last place any may be found.
void search(const Moves&, Goal, double limit, std::optional<int> n_deltas, Best&);

// Adds the cheapest schedules whatever they lose; of each set the one of least loss among the cheapest.
void search_cheapest(const Moves&, std::optional<int> n_deltas, Best&);

}  // namespace deltacal::calib::schedule
