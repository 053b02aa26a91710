// The inner loops that paged_attention and page_score share, compiled once for each instruction set.
//
// A key page is [head_dim, 16]: the logits of 16 keys are a sum over d of broadcast(q[d]) times a vector, so
// nothing is summed across lanes. Both products are register-blocked: kQueries queries times kKeyPages pages
// (logits) or kValueVectors vectors of head_dim (values), accumulators in registers, queries broadcast from
// memory. Every logit and every output element is one chain of multiply-adds in a fixed order, whatever the
// block it falls into.
#if defined(DELTACAL_KERNELS_SIMD_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DELTACAL_KERNELS_SIMD_ATTENTION_INL_H_
#undef DELTACAL_KERNELS_SIMD_ATTENTION_INL_H_
#else
#define DELTACAL_KERNELS_SIMD_ATTENTION_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <algorithm>
#include <limits>

#include "kernels/simd/chunk.h"

HWY_BEFORE_NAMESPACE();
namespace deltacal::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::CappedTag<float, page_size>;
using V = hn::Vec<F>;
inline constexpr int kLanes = int(hn::MaxLanes(F()));
inline constexpr int kPageVectors = page_size / kLanes;

// Accumulators: 24 of 32 registers, or 12 of 16.
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64
inline constexpr int kAccumulators = 24;
#else
inline constexpr int kAccumulators = 12;
#endif
inline constexpr int kQueries = kLanes <= 4 && kAccumulators == 12 ? 3 : 6;
inline constexpr int kValueVectors = kAccumulators / kQueries;
inline constexpr int kKeyPages = std::max(1, kValueVectors / kPageVectors);

HWY_INLINE V load(const float* p) {
  return hn::LoadU(F(), p);
}
HWY_INLINE V load(const bf16* p) {
  const hn::Rebind<uint16_t, F> u16;
  const hn::Rebind<uint32_t, F> u32;
  return hn::BitCast(F(), hn::ShiftLeft<16>(hn::PromoteTo(u32, hn::LoadU(u16, &p->bits))));
}

// 2^x for x <= 0, relative error below 1e-7; 0 below -126, NaN for NaN. Polynomial: 2^r on [-1/2, 1/2],
// interpolated at Chebyshev nodes with p(0) = 1, error 1e-8.
HWY_INLINE V exp2(V x) {
  const F f;
  const hn::Rebind<int32_t, F> i32;
  const V shifter = hn::Set(f, 0x1.8p23f);  // adding it leaves round(x) in the low bits
  const V rounded = hn::Add(x, shifter);
  const V r = hn::Sub(x, hn::Sub(rounded, shifter));
  V p = hn::Set(f, 0x1.44138ap-13f);
  p = hn::MulAdd(p, r, hn::Set(f, 0x1.5f089p-10f));
  p = hn::MulAdd(p, r, hn::Set(f, 0x1.3b2a54p-7f));
  p = hn::MulAdd(p, r, hn::Set(f, 0x1.c6af6cp-5f));
  p = hn::MulAdd(p, r, hn::Set(f, 0x1.ebfbep-3f));
  p = hn::MulAdd(p, r, hn::Set(f, 0x1.62e43p-1f));
  p = hn::MulAdd(p, r, hn::Set(f, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(i32, rounded));
  const V scaled = hn::BitCast(f, hn::Add(hn::BitCast(i32, p), exponent));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(f, -126.0f)), scaled);
}

HWY_INLINE float exp2_of(float x) {
  return hn::GetLane(exp2(hn::Set(F(), x)));
}

// logits[i][j, lane] = sum over d of q[d][i] * page j [d][lane], for kQ queries and kP pages.
template <bool kPrefetch, int kQ, int kP, class T>
HWY_INLINE void logits_block(const float* HWY_RESTRICT q, size_t n_queries, const void* const* pages,
                             int head_dim, float* HWY_RESTRICT logits) {
  const F f;
  constexpr int kV = kP * kPageVectors;
  const T* page[kP];
#pragma GCC unroll 8
  for (int j = 0; j < kP; ++j) page[j] = static_cast<const T*>(pages[j]);
  V sum[kQ][kV];
#pragma GCC unroll 8
  for (int i = 0; i < kQ; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < kV; ++v) sum[i][v] = hn::Zero(f);
  }
  for (int d = 0; d < head_dim; ++d) {
    V key[kV];
#pragma GCC unroll 8
    for (int v = 0; v < kV; ++v) {
      key[v] = load(page[v / kPageVectors] + d * page_size + (v % kPageVectors) * kLanes);
    }
    // Measured on Zen 4: the processor fetches f32 keys, a line for each d, better by itself.
    if constexpr (kPrefetch && sizeof(T) == 2) {
#pragma GCC unroll 8
      for (int j = 0; j < kP; ++j)
        hwy::Prefetch(static_cast<const T*>(pages[j + pages_ahead]) + d * page_size);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kQ; ++i) {
      const V query = hn::Set(f, q[size_t(d) * n_queries + size_t(i)]);
#pragma GCC unroll 8
      for (int v = 0; v < kV; ++v) sum[i][v] = hn::MulAdd(query, key[v], sum[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kQ; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < kV; ++v) hn::StoreU(sum[i][v], f, logits + i * chunk_keys + v * kLanes);
  }
}

// out[i][d] += sum over the keys of p[i][key] * value[key][d], for kQ queries and kV vectors of d. The first
// `n_keys` keys of each page count.
template <bool kPrefetch, int kQ, int kV, class T>
HWY_INLINE void values_block(const float* HWY_RESTRICT p, const void* const* pages, int n_pages, int n_keys,
                             int first_d, int head_dim, float* HWY_RESTRICT out) {
  const F f;
  V sum[kQ][kV];
#pragma GCC unroll 8
  for (int i = 0; i < kQ; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < kV; ++v) sum[i][v] = hn::LoadU(f, out + i * head_dim + first_d + v * kLanes);
  }
  for (int j = 0; j < n_pages; ++j) {
    const T* HWY_RESTRICT row = static_cast<const T*>(pages[j]) + first_d;
    const float* HWY_RESTRICT weight = p + j * page_size;
    const T* next = static_cast<const T*>(pages[j + pages_ahead]) + first_d;
    for (int key = 0; key < n_keys; ++key, row += head_dim, ++weight) {
      V value[kV];
#pragma GCC unroll 8
      for (int v = 0; v < kV; ++v) value[v] = load(row + v * kLanes);
      if constexpr (kPrefetch) {
        constexpr int step = std::max(1, int(64 / (sizeof(T) * kLanes)));  // vectors in a line of the cache
#pragma GCC unroll 8
        for (int v = 0; v < kV; v += step) hwy::Prefetch(next + v * kLanes);
        next += head_dim;
      }
#pragma GCC unroll 8
      for (int i = 0; i < kQ; ++i) {
        const V probability = hn::Set(f, weight[i * chunk_keys]);
#pragma GCC unroll 8
        for (int v = 0; v < kV; ++v) sum[i][v] = hn::MulAdd(probability, value[v], sum[i][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kQ; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < kV; ++v) hn::StoreU(sum[i][v], f, out + i * head_dim + first_d + v * kLanes);
  }
}

template <bool kPrefetch, int kQ, class T>
HWY_INLINE void values_of(const float* p, const void* const* pages, int n_pages, int n_keys, int head_dim,
                          float* out) {
  constexpr int block = kValueVectors * kLanes;
  int d = 0;
  for (; d + block <= head_dim; d += block) {
    values_block<kPrefetch, kQ, kValueVectors, T>(p, pages, n_pages, n_keys, d, head_dim, out);
  }
  for (; d < head_dim; d += 2 * kLanes)
    values_block<kPrefetch, kQ, 2, T>(p, pages, n_pages, n_keys, d, head_dim, out);
}

// The blocks above for any number of queries n: as many blocks of kQ as fit, the rest in one smaller block.
// The first block fetches what comes next.
template <bool kFirst, int kQ, int kP, class T>
HWY_NOINLINE void logits_rows(int n, const float* q, size_t n_queries, const void* const* pages, int head_dim,
                              float* logits) {
  if (n < kQ) {
    if constexpr (kQ > 1) logits_rows<kFirst, kQ - 1, kP, T>(n, q, n_queries, pages, head_dim, logits);
    return;
  }
  logits_block<kFirst, kQ, kP, T>(q, n_queries, pages, head_dim, logits);
  for (n -= kQ; n >= kQ; n -= kQ) {
    q += kQ, logits += kQ * chunk_keys;
    logits_block<false, kQ, kP, T>(q, n_queries, pages, head_dim, logits);
  }
  if constexpr (kQ > 1) {
    if (n > 0) {
      logits_rows<false, kQ - 1, kP, T>(n, q + kQ, n_queries, pages, head_dim, logits + kQ * chunk_keys);
    }
  }
}

template <bool kFirst, int kQ, class T>
HWY_NOINLINE void values_rows(int n, const float* p, const void* const* pages, int n_pages, int n_keys,
                              int head_dim, float* out) {
  if (n < kQ) {
    if constexpr (kQ > 1) values_rows<kFirst, kQ - 1, T>(n, p, pages, n_pages, n_keys, head_dim, out);
    return;
  }
  values_of<kFirst, kQ, T>(p, pages, n_pages, n_keys, head_dim, out);
  for (n -= kQ; n >= kQ; n -= kQ) {
    p += kQ * chunk_keys, out += kQ * head_dim;
    values_of<false, kQ, T>(p, pages, n_pages, n_keys, head_dim, out);
  }
  if constexpr (kQ > 1) {
    if (n > 0) {
      values_rows<false, kQ - 1, T>(n, p + kQ * chunk_keys, pages, n_pages, n_keys, head_dim,
                                    out + kQ * head_dim);
    }
  }
}

// A chunk and the queries that look at it.
struct Queries {
  const float* q = nullptr;  // [head_dim, n] times scale * log2(e): the softmax is taken in powers of 2
  int n = 0;                 // rows of the tile times heads of the group, row after row
  int per_row = 0;
  const int* last_keys = nullptr;  // [rows] keys that the row sees of the chunk's partial page, 1 .. 16
  int head_dim = 0;
};

// p[i][key] = logit of query i, in powers of 2.
template <class T>
void chunk_logits(const Queries& queries, const Chunk& chunk, float* p) {
  const size_t n = size_t(queries.n);
  int j = 0;
  for (; j + kKeyPages <= chunk.n_pages; j += kKeyPages) {
    logits_rows<true, kQueries, kKeyPages, T>(queries.n, queries.q, n, chunk.keys + j, queries.head_dim,
                                              p + j * page_size);
  }
  for (; j < chunk.n_pages; ++j) {
    logits_rows<true, kQueries, 1, T>(queries.n, queries.q, n, chunk.keys + j, queries.head_dim,
                                      p + j * page_size);
  }
}

// Positions at or after n_keys of a page: -inf.
HWY_INLINE void mask_page(float* logits, int n_keys) {
  std::fill(logits + n_keys, logits + page_size, -std::numeric_limits<float>::infinity());
}

// p[0 .. n_keys) becomes 2^(p - max); returns max and the sum. n_keys is a multiple of 16.
HWY_INLINE void exponentials(float* HWY_RESTRICT p, int n_keys, float* max, float* sum) {
  const F f;
  V top[kPageVectors], total[kPageVectors];
  for (int v = 0; v < kPageVectors; ++v) top[v] = load(p + v * kLanes), total[v] = hn::Zero(f);
  for (int i = page_size; i < n_keys; i += page_size) {
    for (int v = 0; v < kPageVectors; ++v) top[v] = hn::Max(top[v], load(p + i + v * kLanes));
  }
  for (int v = 1; v < kPageVectors; ++v) top[0] = hn::Max(top[0], top[v]);
  const V highest = hn::MaxOfLanes(f, top[0]);
  for (int i = 0; i < n_keys; i += page_size) {
    for (int v = 0; v < kPageVectors; ++v) {
      const V e = exp2(hn::Sub(load(p + i + v * kLanes), highest));
      hn::StoreU(e, f, p + i + v * kLanes);
      total[v] = hn::Add(total[v], e);
    }
  }
  for (int v = 1; v < kPageVectors; ++v) total[0] = hn::Add(total[0], total[v]);
  *max = hn::GetLane(highest);
  *sum = hn::GetLane(hn::SumOfLanes(f, total[0]));
}

// p[i][key] = 2^(logit - max[i]) for the keys of the chunk, sum[i] their sum.
template <class T>
void chunk_softmax(const Queries& queries, const Chunk& chunk, float* p, float* max, float* sum) {
  chunk_logits<T>(queries, chunk, p);
  for (int i = 0; i < queries.n; ++i, p += chunk_keys) {
    if (chunk.partial >= 0) mask_page(p + chunk.partial * page_size, queries.last_keys[i / queries.per_row]);
    exponentials(p, chunk.n_pages * page_size, max + i, sum + i);
  }
}

// out[i][d] += sum over pages [first, last) of p * value; pages in pieces that stay in the first-level cache.
template <class T>
void pages_values(const Queries& queries, const Chunk& chunk, int first, int last, const float* p,
                  float* out) {
  const int piece = std::max(1, int(16384 / (sizeof(T) * page_size * size_t(queries.head_dim))));
  for (int j = first; j < last; j += piece) {
    values_rows<true, kQueries, T>(queries.n, p + j * page_size, chunk.values + j, std::min(piece, last - j),
                                   page_size, queries.head_dim, out);
  }
}

// out[i][d] = sum over the chunk's keys of p[i][key] * value[key][d]. Of the partial page each row reads its
// own keys alone: a product with a probability of 0 would let a NaN or infinity behind the row's length
// through.
template <class T>
void chunk_values(const Queries& queries, const Chunk& chunk, const float* p, float* out) {
  std::fill(out, out + size_t(queries.n) * size_t(queries.head_dim), 0.0f);
  if (chunk.partial < 0) return pages_values<T>(queries, chunk, 0, chunk.n_pages, p, out);
  pages_values<T>(queries, chunk, 0, chunk.partial, p, out);
  for (int i = 0; i < queries.n; i += queries.per_row) {
    values_rows<false, kQueries, T>(queries.per_row, p + i * chunk_keys + chunk.partial * page_size,
                                    chunk.values + chunk.partial, 1, queries.last_keys[i / queries.per_row],
                                    queries.head_dim, out + size_t(i) * size_t(queries.head_dim));
  }
  pages_values<T>(queries, chunk, chunk.partial + 1, chunk.n_pages, p, out);
}

}  // namespace deltacal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
