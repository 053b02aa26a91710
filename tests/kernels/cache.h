// A paged cache of random keys and values for the kernels' tests: physical pages shuffled over all sequences,
// and NaN wherever no position of a sequence was written.
#pragma once
#include <hwy/targets.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/paged.h"

namespace deltacal::kernels {

inline std::vector<float> normals(size_t n, unsigned seed, float deviation = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> x(n);
  for (float& y : x) y = normal(random);
  return x;
}

class TestCache {
 public:
  // `written[s]` positions of sequence s hold numbers.
  TestCache(KvType type, int n_kv_heads, int head_dim, const std::vector<int>& written, unsigned seed) {
    int max_pages = 0, n_pages = 1;
    for (const int w : written) max_pages = std::max(max_pages, pages_for(w)), n_pages += pages_for(w);
    physical_.resize(written.size() * size_t(max_pages), -1);
    std::vector<int> order(size_t(n_pages), 0);
    std::iota(order.begin(), order.end(), 0);
    std::mt19937 random(seed);
    std::shuffle(order.begin(), order.end(), random);
    size_t next = 0;
    for (size_t s = 0; s < written.size(); ++s) {
      for (int u = 0; u < pages_for(written[s]); ++u)
        physical_[s * size_t(max_pages) + size_t(u)] = order[next++];
    }
    const size_t elements = size_t(n_pages) * size_t(n_kv_heads) * size_t(head_dim) * page_size;
    const size_t bytes = type == KvType::f32 ? sizeof(float) : sizeof(bf16);
    keys_.assign(elements * bytes, 0xff), values_.assign(elements * bytes, 0xff);  // NaN in either type
    kv_ = {type, n_kv_heads, head_dim, n_pages, keys_.data(), values_.data(), physical_.data(), max_pages};
    std::normal_distribution<float> normal;
    for (size_t s = 0; s < written.size(); ++s) {
      for (int t = 0; t < written[s]; ++t) {
        for (int g = 0; g < n_kv_heads; ++g) {
          for (int d = 0; d < head_dim; ++d) {
            set_key(int(s), g, t, d, normal(random)), set_value(int(s), g, t, d, normal(random));
          }
        }
      }
    }
  }
  TestCache(const TestCache&) = delete;

  const PagedKv& kv() const { return kv_; }
  void set_key(int s, int g, int t, int d, float x) {
    store(keys_,
          kv_.page_offset(kv_.physical(s, page_of(t)), g) + size_t(d) * page_size + size_t(t % page_size), x);
  }
  void set_value(int s, int g, int t, int d, float x) {
    const size_t row = size_t(t % page_size) * size_t(kv_.head_dim);
    store(values_, kv_.page_offset(kv_.physical(s, page_of(t)), g) + row + size_t(d), x);
  }

 private:
  void store(std::vector<unsigned char>& array, size_t index, float x) {
    if (kv_.type == KvType::f32) {
      reinterpret_cast<float*>(array.data())[index] = x;
    } else {
      reinterpret_cast<bf16*>(array.data())[index] = to_bf16(x);
    }
  }

  std::vector<unsigned char> keys_, values_;
  std::vector<int32_t> physical_;
  PagedKv kv_;
};

// Runs `body` once on each instruction set that the CPU has, the best one last.
template <class Body>
void on_every_target(const Body& body) {
  std::vector<int64_t> targets;
  for (int64_t left = hwy::SupportedTargets(); left != 0; left &= left - 1) targets.push_back(left & -left);
  std::reverse(targets.begin(), targets.end());
  for (const int64_t target : targets) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    body(hwy::TargetName(target));
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace deltacal::kernels
