// A DELTA schedule: what each layer attends to (arXiv 2510.09883, section 3; this project's k per layer).
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "core/pages.h"
#include "core/ranking.h"

namespace deltacal::config {

enum class Role {
  full,    // attends to all pages
  delta,   // attends to all pages and ranks them: the list; between two lists to the list in force (core/refresh.h)
  sparse,  // attends to a prefix of the list of the nearest delta layer below it
};

struct LayerPlan {
  Role role = Role::full;
  int k_pages = 0;  // sparse: pages it attends to; delta: length of its list; full: 0
  int l_pages = 0;  // delta: newest pages at the head of its list, 1 <= l_pages <= k_pages; otherwise 0
  bool operator==(const LayerPlan&) const = default;
};

// A Δ-layer makes a list where its queries have turned away from those of its last one, made at t0: at step t where
//   mean over heads of cosine(q[t,h], q[t0,h]) < threshold, or t - t0 >= max_interval
// with q before the rotary embedding, which alone would turn two equal queries by the angle of t - t0 positions.
struct AdaptiveRefresh {
  double threshold = 0;  // of the cosine, -1 to 1
  int max_interval = 1;  // steps
  bool operator==(const AdaptiveRefresh&) const = default;
};

struct Schedule {
  std::vector<LayerPlan> layers;  // [n_layers]
  double position_bias = 1e-7;    // b of select(): pages are ranked by S[u] - b u
  PageScore page_score = PageScore::sum;  // S, by which Δ-layers rank
  int refresh_interval = 1;       // lists are made at the first step and at every multiple of it
  std::optional<AdaptiveRefresh> refresh = std::nullopt;  // instead of an interval
  bool operator==(const Schedule&) const = default;
};

// Throws bad_input, `where` first, for a sparse layer before any delta layer, k below l, a list shorter than
// the k of a layer that it serves, and values out of range.
void check(const Schedule&, const std::string& where);

// Index of the delta layer that serves sparse layer `layer`.
int source_of(const Schedule&, int layer);

// "full 0-1 · delta 2, 14, 22 · sparse k 16-64, L 4": one line for people. Where the score is not DELTA's,
// also "score max"; where lists serve several steps, "lists every 8 steps".
std::string describe(const Schedule&);

// Whether a Δ-layer may keep a list for more than a step.
bool keeps_lists(const Schedule&);

// Positions attended by the step at 0-based position t over all layers, in a sequence whose first step is
// `first_step`; the last page counts as far as it is filled. bad_input with adaptive refresh: what is attended to
// shows in a run alone.
long long attended_positions(const Schedule&, int t, int first_step);

// Sum over layers and steps of t+1, divided by the positions attended, over the steps first..end-1 of each
// sequence. bad_input without steps, and with adaptive refresh.
struct StepRange {
  int first = 0, end = 0;
};
double attended_ratio(const Schedule&, const std::vector<StepRange>& sequences);

}  // namespace deltacal::config
