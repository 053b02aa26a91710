// Negative log-likelihood of one token a row, from logits:
//
//   nll[r] = log(sum_i exp(x[r,i])) - x[r,target[r]]
#pragma once
#include <cstdint>

namespace deltacal::kernels::token_nll {

struct Params {
  int n_rows = 0, n = 0;            // rows; numbers of a row (the vocabulary)
  const float* logits = nullptr;    // [n_rows, n]
  const int32_t* target = nullptr;  // [n_rows] 0..n - 1
  float* nll = nullptr;             // [n_rows] nats
};

void reference(const Params&);  // in double

}  // namespace deltacal::kernels::token_nll
