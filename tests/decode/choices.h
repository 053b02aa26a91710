// Next tokens chosen on the logits' device against the sampler and against brute force, on either device.
#pragma once
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>
#include <vector>

#include "decode/logits.h"

namespace deltacal::decode {

// Normal random numbers; `tied`: rounded to halves, so that every row has equals, mostly at its top too.
struct RandomLogits {
  int n_rows, n_vocab;
  std::vector<float> numbers;  // [n_rows, n_vocab]

  RandomLogits(int n_rows, int n_vocab, bool tied) : n_rows(n_rows), n_vocab(n_vocab) {
    std::mt19937_64 random{uint64_t(n_vocab)};
    std::normal_distribution<float> normal(0, 2);
    for (int i = 0; i < n_rows * n_vocab; ++i) {
      const float x = normal(random);
      numbers.push_back(tied ? std::round(2 * std::min(x, 3.0f)) / 2 : x);
    }
  }
  std::span<const float> row(int r) const {
    return std::span(numbers).subspan(size_t(r) * size_t(n_vocab), size_t(n_vocab));
  }
  Logits on(model::Device device) const { return Logits::of(device, n_rows, numbers); }
  double nll(int r, int32_t token) const {
    double sum = 0;
    for (const float x : row(r)) sum += std::exp(double(x));
    return std::log(sum) - row(r)[size_t(token)];
  }
};

inline std::vector<RandomLogits> all_logits() {
  return {{50, 288, false}, {50, 288, true}, {12, 50021, false}, {12, 50021, true}};
}

inline void check_nll(const RandomLogits& from, const Choice& choice) {
  for (int r = 0; r < from.n_rows; ++r)
    CHECK(std::abs(choice.nll[size_t(r)] - from.nll(r, choice.token[size_t(r)])) < 2e-5);
}

inline void check_most_likely(model::Device device) {
  for (const RandomLogits& from : all_logits()) {
    const Choice choice = most_likely(from.on(device));
    std::vector<int32_t> expected;
    for (int r = 0; r < from.n_rows; ++r) {
      int32_t best = 0;
      for (int32_t id = 1; id < from.n_vocab; ++id)
        if (from.row(r)[size_t(id)] > from.row(r)[size_t(best)]) best = id;
      expected.push_back(best);
    }
    CHECK(choice.token == expected);
    check_nll(from, choice);
  }
}

inline void check_draws(model::Device device) {
  const std::vector<SamplingOptions> all{{0, 0, 1, 1},        {1, 0, 1, 2},     {3, 0, 0.9f, 3},
                                         {0.6f, 0, 0.95f, 4}, {2, 40, 1, 5},    {5, 40, 0.5f, 6},
                                         {1, 1000, 1, 7},     {1, 0, 1e-6f, 8}, {100, 1, 1, 9}};
  for (const RandomLogits& from : all_logits()) {
    const Logits logits = from.on(device);
    for (int round = 0; round < 10; ++round) {
      std::vector<Draw> draws;
      std::vector<int32_t> expected;
      for (int r = 0; r < from.n_rows; ++r) {
        SamplingOptions options = all[size_t(r) % all.size()];
        options.seed += uint64_t(100 * round + r);
        Sampler host(options), here(options);
        expected.push_back(host.next(from.row(r)));
        draws.push_back({options, here.uniform()});
      }
      const Choice choice = draw(logits, draws);
      CHECK(choice.token == expected);
      check_nll(from, choice);
    }
  }
}

}  // namespace deltacal::decode
