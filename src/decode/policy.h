// What each layer of the decoder attends to. A schedule is one policy; full attention and a sliding window with sinks
// are others.
#pragma once
#include <optional>
#include <vector>

#include "config/schedule.h"

namespace deltacal::decode {

enum class Attend {
  all,       // all pages
  all_rank,  // all pages, and ranks them: the list for the layers above; the list in force at steps that make none
  list,      // the first k_pages of the list
  window,    // the first page and the newest k_pages - 1: attention sinks and recent window (StreamingLLM, arXiv 2309.17453)
};

struct LayerPolicy {
  Attend attend = Attend::all;
  int k_pages = 0;  // all_rank: length of the list; list, window: pages attended
  int l_pages = 0;  // all_rank
};

struct Policy {
  std::vector<LayerPolicy> layers;  // [n_layers]
  double position_bias = 1e-7;
  PageScore page_score = PageScore::sum;  // of the layers that rank
  int refresh_interval = 1;  // as in config::Schedule
  std::optional<config::AdaptiveRefresh> refresh = std::nullopt;  // instead of an interval
  bool keeps_lists() const { return refresh_interval > 1 || refresh; }
  // Within a step, so that a captured one (step_graph.h) cannot follow it: a window, or lists that serve
  // several steps.
  bool needs_host() const;
};

Policy full_policy(int n_layers);
Policy delta_policy(const config::Schedule&);
// pages[l]: pages layer l attends to, 0: all.
Policy streaming_policy(const std::vector<int>& pages);

// bad_input, naming it, for what needs_host(), and for a list that no layer makes.
void check_for_capture(const Policy&, int n_layers);

// Smallest k of the layers that do not attend to all, or not at every step; a step is active where it sees more pages.
// 0: none is sparse.
int smallest_k(const Policy&);

}  // namespace deltacal::decode
