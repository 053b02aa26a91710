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

// std::uniform_real_distribution differs between standard libraries.
double Sampler::uniform() {
  return static_cast<double>(random_() >> 11) * 0x1p-53;
}

int32_t Sampler::next(std::span<const float> logits) {
  if (options_.temperature == 0)
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());

  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto less_likely = [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] < logits[b] : a > b;
  };
  const auto more_likely = [&](int32_t a, int32_t b) { return less_likely(b, a); };
  if (options_.top_k > 0 && size_t(options_.top_k) < ids.size()) {
    std::partial_sort(ids.begin(), ids.begin() + options_.top_k, ids.end(), more_likely);
    ids.resize(size_t(options_.top_k));
  }
  const double largest = logits[*std::ranges::min_element(ids, more_likely)];
  const auto probability = [&](int32_t id) {
    return std::exp((double(logits[id]) - largest) / options_.temperature);
  };
  double total = 0;
  for (const int32_t id : ids) total += probability(id);

  // As a heap: a vocabulary need not be sorted to find the few tokens that hold nearly all probability.
  std::make_heap(ids.begin(), ids.end(), less_likely);
  std::vector<int32_t> ranked;  // most likely first, as far as needed
  const auto take = [&] {
    std::pop_heap(ids.begin(), ids.end(), less_likely);
    ranked.push_back(ids.back());
    ids.pop_back();
    return probability(ranked.back());
  };
  double nucleus = total;
  if (options_.top_p < 1) {
    nucleus = take();
    while (!ids.empty() && nucleus < options_.top_p * total) nucleus += take();
    ids.clear();
  }

  double target = nucleus * uniform();
  for (const int32_t id : ranked) {
    target -= probability(id);
    if (target < 0) return id;
  }
  while (!ids.empty()) {
    target -= take();
    if (target < 0) break;
  }
  return ranked.back();
}

}  // namespace deltacal::decode
