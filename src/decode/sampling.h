// Choosing the next token from logits.
#pragma once
#include <cstdint>
#include <random>
#include <span>

namespace deltacal::decode {

struct SamplingOptions {
  float temperature = 0;  // 0: greedy
  int top_k = 0;          // keep the k most likely; 0: all
  float top_p = 1;        // keep the smallest set of tokens that holds this probability (nucleus sampling, arXiv 1904.09751)
  uint64_t seed = 0;
};

// bad_input for values out of range, naming the option.
void check(const SamplingOptions&);

class Sampler {
 public:
  explicit Sampler(const SamplingOptions&);
  // logits [n_vocab]. Greedy: the lowest id among the most likely. The order of filters is top_k, temperature, top_p.
  int32_t next(std::span<const float> logits);
  // The number in 0..1, of 53 random bits, that decides a draw, for who draws elsewhere (draw() in logits.h).
  double uniform();
  const SamplingOptions& options() const { return options_; }

 private:
  SamplingOptions options_;
  std::mt19937_64 random_;
};

}  // namespace deltacal::decode
