// What a schedule may cost, in positions attended: integers, so that "meets the budget" has no rounding.
//
// A layer that attends to k pages reads, at step t, all t+1 positions where it sees at most k pages, and
// otherwise k-1 full pages and the newest one as far as it is filled (method.md, "Attended-token ratio").
#pragma once
#include <span>
#include <string_view>
#include <vector>

#include "config/schedule.h"

namespace deltacal::calib {

// What the user asks of a schedule.
struct Goal {
  enum class Kind {
    attended,    // positions of full attention / positions attended >= value
    min_recall,  // lower bound of every sparse layer's recall >= value, as cheap as possible
  };
  Kind kind = Kind::attended;
  double value = 1;
};

// "attended=3" of `--budget`. bad_input for a value below 1, anything but a number, and for `bytes` and `ms`,
// which this version does not have.
Goal parse_budget(std::string_view text);

// The value of `--min-recall`; bad_input outside ]0, 1].
Goal min_recall_goal(double target);

// Positions that one layer attends to over all steps of some sequences.
class StepCosts {
 public:
  // The steps first..end-1 of each sequence. bad_input for a range that is empty or negative, or for no
  // range.
  explicit StepCosts(std::span<const config::StepRange> sequences);
  long long full() const { return by_pages_.back(); }
  long long at(int k_pages) const;  // k_pages >= 1; full() from max_pages() on
  int max_pages() const { return static_cast<int>(by_pages_.size()); }  // of the longest sequence

 private:
  std::vector<long long> by_pages_;  // [max_pages] at k_pages - 1
};

// One layer's cost by what it attends to; the same for every layer.
struct LayerCosts {
  long long full = 0;             // also of a Δ-layer
  std::vector<long long> sparse;  // [n_k] in the order of the grid's k_pages
};
LayerCosts layer_costs(const StepCosts&, std::span<const int> k_pages);

// The most positions that `n_layers` layers may attend to at an attended-token ratio of at least `ratio`.
long long attended_budget(const LayerCosts&, int n_layers, double ratio);

}  // namespace deltacal::calib
