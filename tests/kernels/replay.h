// A recorded sequence as the CUDA kernels of replay take it, with what the double-precision references say of
// it. The same cases run on a GPU and in the emulator: where the arrays live is the Backend's business.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "cache.h"
#include "kernels/cuda/paged.h"
#include "kernels/page_score/page_score.h"
#include "kernels/page_value/page_value.h"
#include "kernels/paged_attention/paged_attention.h"

namespace deltacal::kernels {

using cuda::Type;

inline uint16_t half_bits(Type type, float x) {
  if (type == Type::bf16) return to_bf16(x).bits;
  return std::bit_cast<uint16_t>(_Float16(x));
}
inline float of_half(Type type, uint16_t bits) {
  return type == Type::bf16 ? to_float(bf16{bits}) : float(std::bit_cast<_Float16>(bits));
}

// 16-bit numbers in memory that a 16-byte read may start at, and the same as floats.
struct Halves {
  Halves() = default;
  Halves(Type type, std::vector<float> x) : value(std::move(x)), bits(value.size()) {
    for (size_t i = 0; i < value.size(); ++i) {
      bits[i] = half_bits(type, value[i]);
      value[i] = of_half(type, bits[i]);
    }
  }
  std::vector<float> value;
  std::vector<uint16_t> bits;
};

struct ReplayShape {
  Type type = Type::bf16;
  int head_dim = 128, n_kv_heads = 2, group = 3, n_keys = 0;
};

class Replay {
 public:
  // Standard normals; logits have the scale 1 / sqrt(head_dim).
  Replay(ReplayShape s, std::vector<int32_t> positions, unsigned seed, int gradients = 1)
      : shape(s),
        position(std::move(positions)),
        n_gradients(gradients),
        scale(1 / std::sqrt(float(s.head_dim))),
        out_pages(pages_for(s.n_keys) + 3) {
    const size_t of_rows = position.size() * size_t(n_heads() * s.head_dim);
    const size_t of_keys = size_t(s.n_keys) * size_t(s.n_kv_heads * s.head_dim);
    q = Halves(s.type, normals(of_rows, seed));
    keys = Halves(s.type, normals(of_keys, seed + 1));
    values = Halves(s.type, normals(of_keys, seed + 2));
    gradient = normals(of_rows * size_t(n_gradients), seed + 3);
    page_table_.resize(size_t(pages_for(s.n_keys)));
    std::iota(page_table_.begin(), page_table_.end(), 0);
  }
  int n_rows() const { return int(position.size()); }
  int n_heads() const { return shape.n_kv_heads * shape.group; }

  // The paged cache that the references read, and the attention's log-sum-exp. After any change of the
  // inputs.
  void prepare() {
    const size_t elements = page_table_.size() * size_t(shape.n_kv_heads * shape.head_dim) * page_size;
    cache_keys_.assign(elements, 0), cache_values_.assign(elements, 0);
    kv_ = {KvType::f32,        shape.n_kv_heads,     shape.head_dim,     int(page_table_.size()),
           cache_keys_.data(), cache_values_.data(), page_table_.data(), int(page_table_.size())};
    for (int i = 0; i < shape.n_keys; ++i)
      for (int g = 0; g < shape.n_kv_heads; ++g)
        for (int d = 0; d < shape.head_dim; ++d) {
          const size_t from =
              (size_t(i) * size_t(shape.n_kv_heads) + size_t(g)) * size_t(shape.head_dim) + size_t(d);
          const size_t page = kv_.page_offset(page_of(i), g);
          cache_keys_[page + size_t(d) * page_size + size_t(i % page_size)] = keys.value[from];
          cache_values_[page + size_t(i % page_size) * size_t(shape.head_dim) + size_t(d)] =
              values.value[from];
        }
    length_.clear();
    for (const int32_t t : position) length_.push_back(t + 1);
    lse.assign(position.size() * size_t(n_heads()), 0.0f);
    std::vector<float> out(q.value.size());
    paged_attention::Params p;
    p.n_rows = n_rows(), p.n_heads = n_heads(), p.scale = scale;
    p.q = q.value.data(), p.kv = kv_, p.length = length_.data();
    p.out = out.data(), p.lse = lse.data();
    paged_attention::reference(p);
  }

  page_score::Params score_params() const {
    page_score::Params p;
    p.n_rows = n_rows(), p.n_heads = n_heads(), p.scale = scale;
    p.q = q.value.data(), p.kv = kv_, p.length = length_.data(), p.out_pages = out_pages;
    return p;
  }
  page_value::Params value_params() const {
    page_value::Params p;
    p.n_rows = n_rows(), p.n_heads = n_heads(), p.n_gradients = n_gradients, p.scale = scale;
    p.q = q.value.data(), p.gradient = gradient.data(), p.kv = kv_, p.length = length_.data();
    p.out_pages = out_pages;
    return p;
  }

  ReplayShape shape;
  std::vector<int32_t> position;  // [n_rows]
  int n_gradients;
  float scale;
  int out_pages;
  Halves q;                     // [n_rows, n_heads, head_dim]
  Halves keys, values;          // [n_keys, n_kv_heads, head_dim]
  std::vector<float> gradient;  // [n_gradients, n_rows, n_heads, head_dim]
  std::vector<float> lse;       // [n_rows, n_heads]

 private:
  std::vector<int32_t> page_table_, length_;
  std::vector<float> cache_keys_, cache_values_;
  PagedKv kv_;
};

// [n_keys, n_kv_heads, head_dim] to [n_kv_heads, n_keys, head_dim].
inline std::vector<uint16_t> head_major(const ReplayShape& s, const std::vector<uint16_t>& x) {
  std::vector<uint16_t> y(x.size());
  const size_t dim = size_t(s.head_dim), heads = size_t(s.n_kv_heads), keys = size_t(s.n_keys);
  for (size_t i = 0; i < keys; ++i)
    for (size_t g = 0; g < heads; ++g)
      std::copy_n(x.begin() + long((i * heads + g) * dim), dim, y.begin() + long((g * keys + i) * dim));
  return y;
}

// An output array with a margin behind it that nobody may write.
constexpr float untouched = -7;
constexpr size_t margin = 64;
inline std::vector<float> output(size_t n) {
  return std::vector<float>(n + margin, untouched);
}
inline bool margin_is_whole(std::vector<float>& x) {
  const bool whole = std::all_of(x.end() - long(margin), x.end(), [](float y) { return y == untouched; });
  x.resize(x.size() - margin);
  return whole;
}

}  // namespace deltacal::kernels
