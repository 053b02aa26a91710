// How fast page scores change from layer to layer and from step to step.
//
//   layer drift = 1 - cosine(S[l,t], S[l-1,t]) over the pages of t
//   step drift  = 1 - cosine(S[l,t], S[l,t-1]) over the pages visible at t-1, both steps in one burst
//
// The DELTA paper (arXiv 2510.09883) takes the peaks of layer drift as Δ-layers.
//
// Means over the recorded steps of a sample; undefined values (an all-zero vector) are missing.
#pragma once
#include <Eigen/Core>
#include <vector>

#include "calib/step_maps.h"

namespace deltacal::calib {

struct SampleDrift {
  Eigen::VectorXd layer;  // [n_layers] first NaN
  Eigen::VectorXd step;   // [n_layers]
};

// Blocks of one sample must come in ascending order of steps.
class DriftSums {
 public:
  explicit DriftSums(int n_layers);
  void add(const StepMaps&);
  SampleDrift finish() const;

 private:
  struct Mean {
    double sum = 0;
    int count = 0;
    void add(double value);
    double value() const;
  };
  std::vector<Mean> layer_, step_;            // [n_layers]
  std::vector<std::vector<float>> previous_;  // [n_layers][U] scores of the last step of the block before
  int previous_position_ = -1, previous_burst_ = -1;
};

// Mean layer drift over the samples of a trace, [n_layers], first NaN.
Eigen::VectorXd mean_layer_drift(const trace::Reader&);

}  // namespace deltacal::calib
