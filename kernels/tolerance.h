// What may differ between a kernel and its reference: one rule for all comparisons.
#pragma once
#include <cmath>

#include "kernels/paged.h"

namespace deltacal::kernels {

// Largest relative error of one rounding to nearest.
constexpr double unit_roundoff(KvType type) {
  return type == KvType::f32 ? 0x1p-24 : 0x1p-9;
}

// Tolerance of a sum of `n_terms` products computed in `type`, the sum of whose absolute values is
// `magnitude`. Rounding errors add up like a random walk: sqrt(n) of them, here with a factor of 4 to spare
// (Higham, Accuracy and Stability of Numerical Algorithms, section 2.8).
inline double sum_tolerance(KvType type, double n_terms, double magnitude) {
  return 4 * unit_roundoff(type) * (2 + std::sqrt(n_terms)) * magnitude;
}

// Relative tolerance of softmax probabilities whose logits are sums of `n_terms` products with absolute
// values of sum `magnitude` at most: d(alpha) / alpha = the error of the logit and that of the denominator.
inline double softmax_tolerance(KvType type, double n_terms, double magnitude) {
  return 2 * sum_tolerance(type, n_terms, magnitude) + 16 * unit_roundoff(type);
}

}  // namespace deltacal::kernels
