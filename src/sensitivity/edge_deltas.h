// What the loss changes, to first order, when layer l reads the pages that layer a chose, at each step:
//
//   delta[l<-a](t; K, L) = g[l,t] . (o~[l,t] - o[l,t])        o~: softmax over select(S[a,t], K, L) alone
//   D[l<-a](K, L)        = 1/2 mean over steps and gradients of delta^2, nats a token
//
// (method.md, "Predicted KL of an edge"), from page mass and page value (kernels/page_value) without touching
// keys or values again. Per head, with c[u] = value[u] - (g.o) mass[u], which sums to 0 over all pages, g.(o~
// - o) = (sum of c over the chosen pages) / (sum of mass over them): no difference of nearly equal numbers.
// A head whose chosen pages all have mass 0 in f32 counts with o~ = 0. All of it once for each of several
// ways to rank the pages (rankings), which share everything but the lists.
//
// Where lists serve several steps (Ranking::keeps_lists), o~ is over the list in force (core/refresh.h), and
// a = l is what a Δ-layer itself loses between its lists, 0 at the steps that make one.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "core/pages.h"
#include "core/ranking.h"

namespace deltacal::sensitivity {

// A list made at position t0, in force at some of the recorded steps.
struct MadeList {
  int t0 = 0;
  int first = 0, end = 0;  // indices of the steps
};

class EdgeDeltas {
 public:
  // steps [S] ascending positions; budgets [E]; at least one ranking.
  EdgeDeltas(int n_layers, int n_heads, std::span<const int32_t> steps, std::vector<PageBudget> budgets,
             int n_gradients, double position_bias, std::span<const Ranking> rankings = plain);

  // Lists of a source layer, by the page scores of their positions, score [lists, n_pages].
  void rank(int ranking, int layer, std::span<const MadeList> lists, int n_pages,
            std::span<const float> score);

  // One target layer, after rank() for every step of every layer up to it, under every ranking.
  // mass [S, n_heads, n_pages], value [n_gradients, S, n_heads, n_pages] as of kernels/page_value.
  void add(int layer, int n_pages, std::span<const float> mass, std::span<const float> value);

  // [n_gradients, E, pairs, S], pairs a <= l in row order: l (l + 1) / 2 + a. 0 where the step sees no more
  // than K pages.
  std::span<const float> delta(int ranking = 0) const;
  // [E, N target, N source] D; NaN where a > l.
  std::vector<float> edge_kl(int ranking = 0) const;

 private:
  static inline const Ranking plain[] = {{}};
  size_t n_pairs() const { return size_t(n_layers_) * size_t(n_layers_ + 1) / 2; }
  // Of one ranking.
  size_t n_deltas() const { return size_t(n_gradients_) * budgets_.size() * n_pairs() * steps_.size(); }
  float& at(int ranking, int gradient, size_t budget, size_t pair, int step);
  size_t list_at(int ranking, int layer, size_t l_index, int step) const;
  int& made_at(int ranking, int layer, int step) {
    return made_at_[(size_t(ranking) * size_t(n_layers_) + size_t(layer)) * steps_.size() + size_t(step)];
  }
  void add_step(int layer, int step, int n_pages, std::span<const float> mass, std::span<const float> value);
  // One step of a target layer for every source's list of one ranking; cells and whole as add_step() has them.
  void add_lists(int ranking, int layer, int step, std::span<const double> cells, std::span<const double> whole);
  // Of one list: the budgets that it serves, K ascending.
  struct Length {
    int l_pages = 0;
    std::vector<size_t> budgets;
  };

  int n_layers_, n_heads_, n_gradients_, n_rankings_, max_k_ = 0;
  double position_bias_;
  std::vector<int32_t> steps_;       // [S]
  std::vector<PageBudget> budgets_;  // [E]
  std::vector<Length> lengths_;      // by L
  std::vector<bool> keeps_;          // [n_rankings] a list serves several steps
  std::vector<int> made_at_;         // [n_rankings, N, S] the position of the list in force
  std::vector<int32_t> lists_;       // [n_rankings, N, n_l, S, max_k] in force
  std::vector<float> delta_;         // [n_rankings, n_gradients, E, pairs, S]
};

}  // namespace deltacal::sensitivity
