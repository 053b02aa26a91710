// How alike the layers are at one step: cosine and Pearson correlation of their page scores over the visible
// pages, and Jaccard overlap of the pages they select. Means over the active steps of a sample (U(t) > K of
// the budget). Undefined values (cosine: an all-zero vector; Pearson: a constant one) are missing, not 0.
#pragma once
#include <Eigen/Core>

#include "calib/recall.h"
#include "calib/step_maps.h"

namespace deltacal::calib {

struct SampleCorrelation {
  Eigen::MatrixXd cosine, pearson, jaccard;  // [n_layers, n_layers] symmetric; NaN where no step has a value
};

class CorrelationSums {
 public:
  CorrelationSums(const Budget&, int n_layers);
  void add(const StepMaps&);
  SampleCorrelation finish() const;

 private:
  struct Measure {
    Eigen::MatrixXd sum, count;  // [n_layers, n_layers]
  };
  struct Measures {
    Measure cosine, pearson, jaccard;
  };
  Measures zeros() const;
  void add_step(const StepMaps&, int step, Measures&) const;
  Budget budget_;
  int n_layers_;
  Measures total_;
};

}  // namespace deltacal::calib
