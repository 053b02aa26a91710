#include "decode/sampling.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <vector>

#include "support/scratch.h"

using namespace deltacal;
using decode::Sampler;

namespace {

std::map<int, double> shares(decode::SamplingOptions options, const std::vector<float>& logits, int n) {
  Sampler sampler(options);
  std::map<int, double> share;
  for (int i = 0; i < n; ++i) share[sampler.next(logits)] += 1.0 / n;
  return share;
}

const std::vector<float> logits{std::log(0.5f), std::log(0.05f), std::log(0.3f), std::log(0.15f)};

}  // namespace

TEST_CASE("sampling: greedy takes the most likely token, the lowest of equals") {
  CHECK(Sampler({}).next(std::vector<float>{1, 3, 2}) == 1);
  CHECK(Sampler({}).next(std::vector<float>{1, 3, 3}) == 1);
}

TEST_CASE("sampling: frequencies follow the softmax at a temperature") {
  const int n = 40000;
  const double deviation = 4 * std::sqrt(0.25 / n);  // four standard deviations at most
  auto share = shares({1, 0, 1, 7}, logits, n);
  CHECK(std::abs(share[0] - 0.5) < deviation);
  CHECK(std::abs(share[1] - 0.05) < deviation);
  share = shares({0.5f, 0, 1, 8}, logits, n);  // squares, normalised by their sum 0.365
  CHECK(std::abs(share[0] - 0.25 / 0.365) < deviation);
  CHECK(std::abs(share[3] - 0.0225 / 0.365) < deviation);
}

TEST_CASE("sampling: top-k and top-p keep the most likely tokens only") {
  const auto top2 = shares({1, 2, 1, 1}, logits, 4000);
  CHECK((top2.size() == 2 && top2.contains(0) && top2.contains(2)));
  const auto nucleus = shares({1, 0, 0.81f, 1}, logits, 4000);  // 0.5 + 0.3 fall short of 0.81
  CHECK((nucleus.size() == 3 && !nucleus.contains(1)));
  const auto tiny = shares({1, 0, 1e-6f, 1}, logits, 100);
  CHECK((tiny.size() == 1 && tiny.contains(0)));
}

TEST_CASE("sampling: a draw is where the sum of the sorted probabilities passes it") {
  std::vector<float> many(500);
  for (size_t i = 0; i < many.size(); ++i) many[i] = float((i * 7919) % 97) * 0.11f;  // with equals
  for (const auto& [temperature, top_k, top_p] : {std::tuple{0.7f, 0, 1.0f},
                                                  {1.3f, 0, 0.9f},
                                                  {2.0f, 40, 1.0f},
                                                  {1.0f, 40, 0.5f},
                                                  {1.0f, 1000, 0.999f}}) {
    Sampler sampler({temperature, top_k, top_p, 42});
    std::mt19937_64 random(42);
    std::vector<int> ids(many.size());
    std::iota(ids.begin(), ids.end(), 0);
    std::ranges::stable_sort(ids, [&](int a, int b) { return many[size_t(a)] > many[size_t(b)]; });
    if (top_k > 0 && top_k < int(ids.size())) ids.resize(size_t(top_k));
    const auto p = [&, t = temperature](int id) {
      return std::exp((double(many[size_t(id)]) - many[size_t(ids[0])]) / t);
    };
    double total = 0, kept = 0;
    for (const int id : ids) total += p(id);
    size_t n = 0;
    while (n < ids.size() && (n == 0 || kept < top_p * total)) kept += p(ids[n++]);
    for (int draw = 0; draw < 200; ++draw) {
      double target = kept * (double(random() >> 11) * 0x1p-53);
      size_t i = 0;
      while (i + 1 < n && (target -= p(ids[i])) >= 0) ++i;
      CHECK(sampler.next(many) == ids[i]);
    }
  }
}

TEST_CASE("sampling: a seed repeats the same tokens") {
  Sampler a({1, 0, 1, 5}), b({1, 0, 1, 5}), c({1, 0, 1, 6});
  std::vector<int> from_a, from_b, from_c;
  for (int i = 0; i < 50; ++i) {
    from_a.push_back(a.next(logits));
    from_b.push_back(b.next(logits));
    from_c.push_back(c.next(logits));
  }
  CHECK(from_a == from_b);
  CHECK(from_a != from_c);
}

TEST_CASE("sampling: options out of range are named") {
  CHECK(test::error_of([] { Sampler({-1, 0, 1, 0}); }).find("--temperature") != std::string::npos);
  CHECK(test::error_of([] { Sampler({NAN, 0, 1, 0}); }).find("--temperature") != std::string::npos);
  CHECK(test::error_of([] { Sampler({1, -2, 1, 0}); }).find("--top-k") != std::string::npos);
  CHECK(test::error_of([] { Sampler({1, 0, 0, 0}); }).find("--top-p") != std::string::npos);
}
