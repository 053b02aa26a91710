// A DELTA schedule: what each layer attends to (arXiv 2510.09883, section 3; this project's k per layer).
#pragma once
#include <string>
#include <vector>

#include "core/pages.h"
#include "core/ranking.h"

namespace deltacal::config {

enum class Role {
  full,    // attends to all pages
  delta,   // attends to all pages and ranks them: the list
  sparse,  // attends to a prefix of the list of the nearest delta layer below it
};

struct LayerPlan {
  Role role = Role::full;
  int k_pages = 0;  // sparse: pages it attends to; delta: length of its list; full: 0
  int l_pages = 0;  // delta: newest pages at the head of its list, 1 <= l_pages <= k_pages; otherwise 0
  bool operator==(const LayerPlan&) const = default;
};

// How a Δ-layer scores pages (delta_config.json: score). Δ-layer a ranks by T_a = S_a + carry * T_b, b being
// the nearest Δ-layer below it (none: T_a = S_a), and S_a[u] = agg over i in page u of max_h w[a][h] alpha[h,i].
struct Score {
  using Page = PageScore;
  Page page = Page::sum;  // agg: of max_h alpha over the page's positions, their sum (DELTA), or the largest
  double carry = 0;       // share of the previous Δ-layer's page scores that is added, 0 <= carry <= 1
  // w: [n_layers][n_heads] factors of alpha before the max over heads; empty (or an empty row): all 1; rows only
  // for Δ-layers.
  std::vector<std::vector<float>> head_weights;
  bool operator==(const Score&) const = default;
};

struct Schedule {
  std::vector<LayerPlan> layers;  // [n_layers]
  double position_bias = 1e-7;    // b of select(): pages are ranked by S[u] - b u
  Score score = {};
  int refresh_interval = 1;       // steps between two lists; only 1 is supported
  bool operator==(const Schedule&) const = default;
};

// Throws bad_input, `where` first, for a sparse layer before any delta layer, k below l, a list shorter than
// the k of a layer that it serves, head weights of another layer than a delta layer, and values out of range.
void check(const Schedule&, const std::string& where);

// bad_input unless each row of head weights has one number for each of the model's query heads.
void check_heads(const Score&, int n_heads, const std::string& where);

// Index of the delta layer that serves sparse layer `layer`.
int source_of(const Schedule&, int layer);

// "full 0-1 · delta 2, 14, 22 · sparse k 16-64, L 4": one line for people. Where the score is not DELTA's, also
// "score max, carry 0.5, head weights at 2, 14".
std::string describe(const Schedule&);

// Positions attended by one step at 0-based position t over all layers; the last page counts as far as it is
// filled. Every list contains the newest page (l_pages >= 1), so min(k, U) pages hold (k-1) full ones and the
// newest.
long long attended_positions(const Schedule&, int t);

// Sum over layers and steps of t+1, divided by the positions attended, over the steps first..end-1 of each
// sequence.
struct StepRange {
  int first = 0, end = 0;
};
double attended_ratio(const Schedule&, const std::vector<StepRange>& sequences);

}  // namespace deltacal::config
