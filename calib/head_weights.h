// Weights per query head of a Δ-layer, fitted to lower the predicted KL of the layers that read its list:
//
//   S[u] = agg over i in u of max_h w[h] alpha[h,i]               agg: the sum (DELTA), or the largest
//   F(w) = sum over served layers l of D[l<-a](k_l, L; w)         averaged over samples, nats a token
//
// F is piecewise constant in w, so the search is over a grid: coordinate descent from w = 1, one head after
// the other set to the best of a few factors. Weights cost nothing when decoding, but a search over many can
// fit noise: what they gain is measured on problems that they were not fitted on (cross-validation), and
// weights whose gain there is not surely above 0 are not kept. (Bootstrap intervals of few
// problems are narrow: of weights fitted to random attention and random cells of 8 or 12 problems 26 of 240
// were kept, one in nine, not the one in forty that the interval promises. Their mean gain on problems left out
// was 0.)
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "calib/bootstrap.h"
#include "calib/page_order.h"
#include "config/schedule.h"
#include "core/head_cells.h"

namespace deltacal::calib {

// One Δ-layer: how it ranks, and what its weights decide in every sample.
struct HeadTask {
  int layer = 0, n_heads = 0, l_pages = 0;
  config::Score::Page page = config::Score::Page::sum;
  double position_bias = default_position_bias;
  std::vector<HeadCells> samples;
};

struct HeadSearch {
  std::vector<float> factors{0, 0.25f, 0.5f, 1, 2, 4};  // powers of two: scaling by them rounds nothing
  int max_sweeps = 8;
  double least_gain =
      1e-3;           // the search ends after a sweep over all heads that gains less than this share of F
  int folds = 10;     // of the cross-validation; fewer where there are fewer problems
  uint64_t seed = 0;  // order of the heads, problems of the folds
};

// Predicted KL of the served layers in one sample, nats a token. weights [n_heads], at least 0 and not all 0;
// they are taken as they are where the largest is 1, and scaled to that otherwise, as only ratios matter.
double head_loss(const HeadTask&, int sample, std::span<const float> weights);

struct HeadFit {
  std::vector<float> weights;   // [n_heads] the largest is 1
  double before = 0, loss = 0;  // F of all ones, and of the weights: means over the samples fitted on
  int sweeps = 0;
};
// `samples`: indices into task.samples, not empty.
HeadFit fit_head_weights(const HeadTask&, std::span<const int> samples, const HeadSearch&);

struct HeadChoice {
  int layer = 0;
  std::vector<int> served;                       // layers that read its list
  HeadFit fit;                                   // on all samples
  std::vector<std::vector<float>> fold_weights;  // [n_folds] fitted on the other folds
  std::vector<int> fold;                         // [n_samples] the fold that a sample was left out in
  std::vector<double> before, held_out;  // [n_samples] F of all ones; of the weights fitted without its fold
  Estimate gain;                         // before - held_out, nats a token
  bool kept = false;                     // gain.low > 0
  std::string reason;                    // why not; empty where kept
};
// Fits on all samples, and once for each fold without it; folds hold whole problems. `after_fit` is called
// after each of the n_fits() fits.
HeadChoice choose_head_weights(const HeadTask&, const HeadSearch&, const Bootstrap&,
                               const std::function<void()>& after_fit = {});
int n_fits(const HeadTask&, const HeadSearch&);

}  // namespace deltacal::calib
