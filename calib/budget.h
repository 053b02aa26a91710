// What a schedule may cost, in integers, so that "meets the budget" has no rounding: positions attended (also
// for a budget of bytes), or nanoseconds (cost_table.h).
//
// A layer that attends to k pages reads, at step t, all t+1 positions where it sees at most k pages, and
// otherwise k-1 full pages and the newest one as far as it is filled (method.md, "Attended-token ratio").
#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "config/schedule.h"

namespace deltacal::calib {

// What the user asks of a schedule.
struct Goal {
  enum class Kind {
    attended,    // positions of full attention / positions attended >= value
    bytes,       // mean bytes of KV cache that a step reads over all layers <= value
    ms,          // mean time of a step in milliseconds, by a cost table, <= value
    min_recall,  // lower bound of every sparse layer's recall >= value, as cheap as possible
    max_kl,      // summed loss (predicted KL, nats a token) <= value, as cheap as possible
  };
  Kind kind = Kind::attended;
  double value = 1;
};

// "attended=3", "bytes=64M" (K, M, G: powers of 1024) or "ms=12.5" of `--budget`. bad_input, with what to
// write, for a ratio below 1, bytes or ms not above 0, and anything else.
Goal parse_budget(std::string_view text);

// The value of `--min-recall`; bad_input outside ]0, 1].
Goal min_recall_goal(double target);

// The value of `--max-kl`, nats a token; bad_input unless finite and at least 0.
Goal max_kl_goal(double target);

// Positions that one layer attends to over all steps of some sequences.
class StepCosts {
 public:
  // The steps first..end-1 of each sequence. bad_input for a range that is empty or negative, or for no
  // range.
  explicit StepCosts(std::span<const config::StepRange> sequences);
  const std::vector<config::StepRange>& sequences() const { return sequences_; }
  long long n_steps() const { return n_steps_; }
  long long full() const { return by_pages_.back(); }
  long long at(int k_pages) const;  // k_pages >= 1; full() from max_pages() on
  // Of a Δ-layer: everything at the steps that make a list, k_pages at the others. lists [max_pages() + 1]:
  // steps that make one, by the pages they see. Lists in force count as complete, which they are for up to 16
  // steps wherever they are used (core/refresh.h), and else cost no less.
  long long listed(int k_pages, std::span<const long long> lists) const;
  int max_pages() const { return static_cast<int>(by_pages_.size()); }  // of the longest sequence

 private:
  std::vector<config::StepRange> sequences_;
  long long n_steps_ = 0;
  std::vector<long long> by_pages_;  // [max_pages] at k_pages - 1
};

// One layer's cost by its role, summed over the steps. Any unit.
struct LayerCosts {
  long long full = 0;
  long long delta = 0;            // attends to all pages and ranks them
  std::vector<long long> sparse;  // [n_k] in the order of the grid's k_pages
  // [n_layers][n_k] a Δ-layer whose list of that length serves several steps; empty where lists serve one
  std::vector<std::vector<long long>> listed = {};
};
// In positions: a Δ-layer costs what a full one does.
LayerCosts layer_costs(const StepCosts&, std::span<const int> k_pages);
// LayerCosts::listed, with a list at the first step and at every multiple of `refresh_interval`.
std::vector<std::vector<long long>> listed_costs(const StepCosts&, std::span<const int> k_pages, int n_layers,
                                                 int refresh_interval);
// The same with lists of any steps, for each of the sequences: made_at [n_layers, end - first] the position
// of the list in force (RankedKl::list_made_at).
std::vector<std::vector<long long>> listed_costs(const StepCosts&, std::span<const int> k_pages, int n_layers,
                                                 std::span<const std::vector<int32_t>> made_at);

// The most positions that `n_layers` layers may attend to at an attended-token ratio of at least `ratio`.
long long attended_budget(const LayerCosts&, int n_layers, double ratio);

// Bytes of the KV cache for one position of one layer: its key and its value.
long long bytes_per_position(int n_kv_heads, int head_dim, int element_size);

// The most positions that all layers may attend to over all steps when a step reads `bytes` of KV cache in
// the mean.
long long bytes_budget(const StepCosts&, double bytes, long long bytes_per_position);

}  // namespace deltacal::calib
