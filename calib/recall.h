// Recall: the share of a layer's attention mass on the pages that another layer chose.
//
//   R[l<-a](t; K, L) = sum of M[l,t,u] over u in select(S[a,t], K, L)       a <= l
//   O[l](t; K)       = the largest sum of M[l,t,u] over any K pages
//
// A step is active for K where it sees more than K pages, U(t) > K; elsewhere nothing is left out.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "calib/step_maps.h"
#include "trace/trace.h"

namespace deltacal::calib {

using Budget = PageBudget;

// The budgets that are measured. Both ascending, without repetition, all at least 1.
struct Grid {
  std::vector<int> k_pages{4, 8, 16, 32, 64, 128};
  std::vector<int> l_pages{1, 2, 4, 8};
  std::vector<Budget> pairs() const;  // those with L <= K; K is the slower index
};

// bad_input if a list is empty, not ascending or below 1, or if no pair has L <= K.
void check(const Grid&);

// Recall of every edge within one sample. Indices: pair into Grid::pairs(), k into Grid::k_pages.
struct SampleRecall {
  std::string id, problem;
  int n_layers = 0;
  int n_steps = 0;            // recorded steps
  std::vector<int> n_active;  // [n_k] recorded steps with U(t) > K
  // [pairs, n_layers target, n_layers source] each; NaN where source > target
  std::vector<float> mean_active;  // mean over active steps; NaN if there is none
  std::vector<float> worst;        // the least of an active step; NaN if there is none
  // Mean over ALL recorded steps of 1 - R, where inactive steps add 0: values of different K add up. Never
  // negative (half precision of the stored mass can put R a little above 1). NaN if no step is recorded.
  std::vector<float> mean_lost;
  std::vector<float> oracle;  // [n_k, n_layers] mean of O over active steps; NaN if there is none
  int n_kv_heads = 0;         // 0 if group mass is not recorded
  std::vector<float>
      group_active;  // [pairs, n_layers, n_layers, n_kv_heads] mean over active steps of a head's recall

  std::size_t at(int pair, int target, int source) const {
    return (static_cast<std::size_t>(pair) * n_layers + target) * n_layers + source;
  }
};

// How often each recall occurred over the active steps of all samples: quantiles without keeping the steps.
class RecallHistogram {
 public:
  static constexpr int n_bins = 1000;  // of equal width over 0..1
  RecallHistogram(int n_pairs, int n_layers);
  void add(int pair, int target, int source, double recall);
  // The quantile q (0..1), to the width of a bin; NaN where nothing was added.
  double quantile(int pair, int target, int source, double q) const;

 private:
  std::size_t first_bin(int pair, int target, int source) const;
  int n_edges_;
  std::vector<uint32_t> counts_;  // [pairs, edges, n_bins]; edges a <= l in row order
};

// Adds up one sample's recall block by block.
class RecallSums {
 public:
  RecallSums(const Grid&, int n_layers);
  // Every layer of some steps. `histogram`, if any, gets each active step's recall.
  void add(const StepMaps&, RecallHistogram* histogram = nullptr);
  SampleRecall finish(std::string id, std::string problem) const;

 private:
  void add_source(const StepMaps&, int source, RecallHistogram*);
  void add_oracle(const StepMaps&, int layer);
  Grid grid_;
  std::vector<Budget> pairs_;
  int n_layers_, n_steps_ = 0, n_kv_heads_ = 0;
  std::vector<int> n_active_;               // [n_k]
  std::vector<double> sum_, lost_, least_;  // [pairs, n_layers, n_layers]
  std::vector<double> oracle_;              // [n_k, n_layers]
  std::vector<double> group_;               // [pairs, n_layers, n_layers, n_kv_heads]
};

// One entry a sample of the trace, in its order. Memory is bounded by blocks of steps.
std::vector<SampleRecall> recalls(const trace::Reader&, const Grid&);

}  // namespace deltacal::calib
