// What a page list is worth some steps later: how large a refresh interval may be.
//
// Stale recall of lag d at step t: the mass that layer l keeps at t with the K - L pages that
// select(S[l,t-d], K, L) ranks after its own last L, united with the last L pages of t. Pages between the two
// windows are lost, as in a decoder that refreshes its list every d + 1 steps. Mean over t with t and t-d
// recorded in one burst and U(t-d) > K. Lag 0 is R[l<-l].
#pragma once
#include <array>
#include <optional>
#include <span>
#include <vector>

#include "calib/recall.h"
#include "calib/step_maps.h"

namespace deltacal::calib {

inline constexpr std::array<int, 8> stale_lags{0, 1, 2, 4, 8, 16, 32, 64};  // decoding steps

struct SampleStale {
  int n_layers = 0;
  std::vector<float> recall;  // [lags, pairs, n_layers]; NaN where no step qualifies
  std::vector<float> window;  // [pairs, n_layers] mean over U(t) > K of the mass on the last L pages alone
};

// Blocks of one sample must come in ascending order of steps.
class StaleSums {
 public:
  StaleSums(const Grid&, int n_layers);
  void add(const StepMaps&);
  SampleStale finish() const;

 private:
  struct Past {  // what one step selected
    int position = -1, burst = -1, n_pages = 0;
    std::vector<std::vector<int32_t>> ranked;  // [n_l] after its own last L
  };
  struct Layer {
    std::vector<Past> past;               // [largest lag + 1] by position modulo its size
    std::vector<double> recall, window;   // [lags, pairs], [pairs] sums
    std::vector<int> n_recall, n_window;  // how many steps are in them
  };
  void add_layer(const StepMaps&, int layer);
  // The mass of the last L pages, added for every K that leaves pages out.
  double add_window(Layer&, std::span<const float> mass, int l_pages) const;
  // `l` and `lag` index the grid's L and stale_lags.
  void add_lag(Layer&, std::span<const float> mass, double window, const Past&, int l, int lag) const;
  Grid grid_;
  std::vector<Budget> pairs_;
  std::vector<Layer> layers_;
};

// Half-life of one layer: the smallest recorded lag whose stale recall is at or below the middle between lag
// 0's and the recent window's.
struct HalfLife {
  std::optional<int> lag;           // steps
  std::optional<int> greater_than;  // the largest recorded lag, where even that is above the middle
  // Both empty: nothing to lose (lag 0 is less than 0.01 above the window), or no active step.
};

// recall [lags]: by stale_lags, NaN where not recorded; window: recall of the recent window alone.
HalfLife half_life(std::span<const double> recall, double window);

}  // namespace deltacal::calib
