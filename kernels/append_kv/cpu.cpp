// Per row: sines and cosines of its angles once, in double rounded to float, then plain loops in float over
// its heads, which the compiler vectorises for each instruction set. Bound by the memory that q, k, v and the
// pages lie in.
#include "kernels/simd/targets.h"

// foreach_target.h includes this file once for each instruction set; what follows it belongs to each of them.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/append_kv/cpu.cpp"
#include <hwy/foreach_target.h>

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/append_kv/append_kv.h"

HWY_BEFORE_NAMESPACE();
namespace deltacal::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using append_kv::Params;
using append_kv::RotaryPairs;

// cos and sin of position * inverse_frequency[j], times the amplitude. The angle is reduced to a quarter more
// than one turn first: Highway's functions are accurate up to 39000 only. 2 pi in two parts, the first of 33
// bits, so that its products with the number of turns are exact.
void angles(const Params& p, int position, float* cosine, float* sine) {
  const hn::CappedTag<double, 8> f64;
  constexpr int lanes = int(hn::MaxLanes(f64));
  const auto turn = hn::Set(f64, 6.283185307179586), turn_high = hn::Set(f64, 0x1.921fb544p+2),
             turn_low = hn::Set(f64, 0x1.0b4611a626331p-32);
  HWY_ALIGN double angle[8], c[8], s[8];
  for (int j = 0; j < p.rotary_dim / 2; j += lanes) {
    const int n = std::min(lanes, p.rotary_dim / 2 - j);
    for (int i = 0; i < lanes; ++i)
      angle[i] = i < n ? double(position) * double(p.inverse_frequency[j + i]) : 0.0;
    const auto x = hn::Load(f64, angle);
    const auto turns = hn::Round(hn::Div(x, turn));
    const auto reduced = hn::NegMulAdd(turns, turn_low, hn::NegMulAdd(turns, turn_high, x));
    hn::Store(hn::Cos(f64, reduced), f64, c);
    hn::Store(hn::Sin(f64, reduced), f64, s);
    for (int i = 0; i < n; ++i) {
      cosine[j + i] = float(c[i] * double(p.amplitude));
      sine[j + i] = float(s[i] * double(p.amplitude));
    }
  }
}

// y = x turned; y may be x.
HWY_INLINE void rotate(const Params& p, const float* cosine, const float* sine, const float* x, float* y) {
  const int half = p.rotary_dim / 2;
  const int stride = p.pairs == RotaryPairs::neox ? 1 : 2, partner = p.pairs == RotaryPairs::neox ? half : 1;
  for (int j = 0; j < half; ++j) {
    const float a = x[j * stride], b = x[j * stride + partner];
    y[j * stride] = a * cosine[j] - b * sine[j];
    y[j * stride + partner] = b * cosine[j] + a * sine[j];
  }
  if (y != x) std::copy(x + p.rotary_dim, x + p.kv.head_dim, y + p.rotary_dim);
}

HWY_INLINE void put(float x, float* to) {
  *to = x;
}
HWY_INLINE void put(float x, bf16* to) {
  *to = to_bf16(x);
}

// scratch: [2 * head_dim]
template <class T>
void append_typed(const Params& p, int r, float* scratch) {
  const size_t dim = size_t(p.kv.head_dim);
  float *cosine = scratch, *sine = scratch + dim / 2, *turned = scratch + dim;
  angles(p, p.position[r], cosine, sine);
  for (int h = 0; h < p.n_heads; ++h) {
    float* q = p.q + (size_t(r) * size_t(p.n_heads) + size_t(h)) * dim;
    rotate(p, cosine, sine, q, q);
  }
  const size_t slot = size_t(p.position[r] % page_size);
  const int physical = p.kv.physical(p.sequence ? p.sequence[r] : 0, page_of(p.position[r]));
  for (int g = 0; g < p.kv.n_kv_heads; ++g) {
    const size_t row = (size_t(r) * size_t(p.kv.n_kv_heads) + size_t(g)) * dim;
    T* keys = static_cast<T*>(p.kv.keys) + p.kv.page_offset(physical, g) + slot;
    T* values = static_cast<T*>(p.kv.values) + p.kv.page_offset(physical, g) + slot * dim;
    rotate(p, cosine, sine, p.k + row, turned);
    for (size_t d = 0; d < dim; ++d) put(turned[d], keys + d * page_size);
    for (size_t d = 0; d < dim; ++d) put(p.v[row + d], values + d);
  }
}

void append_row(const Params& p, int r, float* scratch) {
  if (p.kv.type == KvType::f32) {
    append_typed<float>(p, r, scratch);
  } else {
    append_typed<bf16>(p, r, scratch);
  }
}

}  // namespace deltacal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <omp.h>

#include <vector>

namespace deltacal::kernels {
HWY_EXPORT(append_row);
}  // namespace deltacal::kernels

namespace deltacal::kernels::append_kv {

void cpu(const Params& p) {
  check(p);
  const int n_threads = p.n_rows >= 2 * page_size ? omp_get_max_threads() : 1;
  const size_t scratch_floats = 2 * size_t(p.kv.head_dim);
  std::vector<float> scratch(size_t(n_threads) * scratch_floats);
#pragma omp parallel for schedule(static) num_threads(n_threads)
  for (int r = 0; r < p.n_rows; ++r) {
    HWY_DYNAMIC_DISPATCH(append_row)(p, r, scratch.data() + size_t(omp_get_thread_num()) * scratch_floats);
  }
}

}  // namespace deltacal::kernels::append_kv
#endif
