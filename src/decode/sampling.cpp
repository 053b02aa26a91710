#include "decode/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/error.h"

namespace deltacal::decode {

void check(const SamplingOptions& o) {
  if (!(o.temperature >= 0) || !std::isfinite(o.temperature))
    throw bad_input("--temperature {}: it must be 0 (greedy) or a positive number", o.temperature);
  if (o.top_k < 0) throw bad_input("--top-k {}: it must be 0 (all tokens) or positive", o.top_k);
  if (!(o.top_p > 0 && o.top_p <= 1)) throw bad_input("--top-p {}: it must be above 0 and at most 1", o.top_p);
}

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) { check(options); }

int32_t Sampler::next(std::span<const float> logits) {
  if (options_.temperature == 0)
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());

  std::vector<int32_t> ids(logits.size());  // most likely first
  std::iota(ids.begin(), ids.end(), 0);
  const auto more_likely = [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  const size_t kept = options_.top_k > 0 ? std::min<size_t>(options_.top_k, ids.size()) : ids.size();
  std::partial_sort(ids.begin(), ids.begin() + static_cast<long>(kept), ids.end(), more_likely);
  ids.resize(kept);

  std::vector<double> probability(kept);
  for (size_t i = 0; i < kept; ++i)
    probability[i] = std::exp((double(logits[ids[i]]) - logits[ids[0]]) / options_.temperature);
  const double total = std::accumulate(probability.begin(), probability.end(), 0.0);
  double nucleus = 0;
  size_t n = 0;
  while (n < kept && (n == 0 || nucleus < options_.top_p * total)) nucleus += probability[n++];

  // 53 random bits; std::uniform_real_distribution differs between standard libraries.
  double target = nucleus * (static_cast<double>(random_() >> 11) * 0x1p-53);
  for (size_t i = 0; i < n; ++i) {
    target -= probability[i];
    if (target < 0) return ids[i];
  }
  return ids[n - 1];
}

}  // namespace deltacal::decode
