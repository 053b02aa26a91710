// Cases of page scores and page values for recorded rows, each to be run on every backend.
#pragma once
#include <catch2/catch_test_macros.hpp>

#include "kernels/record_scores/params.h"
#include "kernels/record_values/params.h"
#include "kernels/tolerance.h"
#include "replay.h"

namespace deltacal::kernels {

using page_score::Page;

// Where the arrays live and the kernels run.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual const void* in(const void* host, size_t bytes) = 0;
  virtual float* out(std::vector<float>& host) = 0;
  virtual void run(const cuda::record_scores::Params&) = 0;
  virtual void run(const cuda::record_values::Params&) = 0;
  virtual void finish() = 0;  // the kernel has ended, out()'s arrays are filled
  template <class T>
  const T* in(const std::vector<T>& host) {
    return static_cast<const T*>(in(host.data(), host.size() * sizeof(T)));
  }
};

struct Scores {
  std::vector<float> score, mass, group_mass;
};
struct Values {
  std::vector<float> mass, value;
};

struct ScoreOptions {
  Page page = Page::sum;
  bool masses = true, head_major = false;
};

inline Scores run_scores(Backend& b, const Replay& r, const ScoreOptions& o = {}) {
  const size_t pages = size_t(r.n_rows()) * size_t(r.out_pages);
  Scores s{output(pages), output(pages), output(pages * size_t(r.shape.n_kv_heads))};
  const std::vector<uint16_t> keys = o.head_major ? head_major(r.shape, r.keys.bits) : r.keys.bits;
  const int64_t dim = r.shape.head_dim;
  cuda::record_scores::Params p;
  p.n_rows = r.n_rows(), p.n_heads = r.n_heads(), p.n_kv_heads = r.shape.n_kv_heads,
  p.head_dim = r.shape.head_dim;
  p.n_keys = r.shape.n_keys, p.type = r.shape.type, p.scale = r.scale, p.page = o.page,
  p.out_pages = r.out_pages;
  p.q = b.in(r.q.bits), p.keys = b.in(keys), p.lse = b.in(r.lse), p.position = b.in(r.position);
  p.key_token_stride = o.head_major ? dim : r.shape.n_kv_heads * dim;
  p.key_head_stride = o.head_major ? r.shape.n_keys * dim : dim;
  p.score = b.out(s.score);
  if (o.masses) p.mass = b.out(s.mass), p.group_mass = b.out(s.group_mass);
  b.run(p);
  b.finish();
  for (std::vector<float>* x : {&s.score, &s.mass, &s.group_mass}) REQUIRE(margin_is_whole(*x));
  return s;
}

inline Values run_values(Backend& b, const Replay& r, bool heads_first = false) {
  const size_t heads = size_t(r.n_rows()) * size_t(r.n_heads()) * size_t(r.out_pages);
  Values v{output(heads), output(heads * size_t(r.n_gradients))};
  const std::vector<uint16_t> keys = heads_first ? head_major(r.shape, r.keys.bits) : r.keys.bits;
  const std::vector<uint16_t> values = heads_first ? head_major(r.shape, r.values.bits) : r.values.bits;
  const int64_t dim = r.shape.head_dim;
  cuda::record_values::Params p;
  p.n_rows = r.n_rows(), p.n_heads = r.n_heads(), p.n_kv_heads = r.shape.n_kv_heads,
  p.head_dim = r.shape.head_dim;
  p.n_gradients = r.n_gradients, p.n_keys = r.shape.n_keys, p.type = r.shape.type, p.scale = r.scale;
  p.q = b.in(r.q.bits), p.keys = b.in(keys), p.values = b.in(values), p.gradient = b.in(r.gradient);
  p.lse = b.in(r.lse), p.position = b.in(r.position), p.out_pages = r.out_pages;
  p.token_stride = heads_first ? dim : r.shape.n_kv_heads * dim;
  p.head_stride = heads_first ? r.shape.n_keys * dim : dim;
  p.mass = b.out(v.mass), p.value = b.out(v.value);
  b.run(p);
  b.finish();
  for (std::vector<float>* x : {&v.mass, &v.value}) REQUIRE(margin_is_whole(*x));
  return v;
}

inline Scores reference_scores(const Replay& r, const ScoreOptions& o) {
  const size_t pages = size_t(r.n_rows()) * size_t(r.out_pages);
  Scores s{std::vector<float>(pages), std::vector<float>(pages),
           std::vector<float>(pages * size_t(r.shape.n_kv_heads))};
  page_score::Params p = r.score_params();
  p.page = o.page;
  p.score = s.score.data(), p.mass = s.mass.data(), p.group_mass = s.group_mass.data();
  page_score::reference(p);
  return s;
}

inline Values reference_values(const Replay& r) {
  const size_t heads = size_t(r.n_rows()) * size_t(r.n_heads()) * size_t(r.out_pages);
  Values v{std::vector<float>(heads), std::vector<float>(heads * size_t(r.n_gradients))};
  page_value::Params p = r.value_params();
  p.mass = v.mass.data(), p.value = v.value.data();
  page_value::reference(p);
  return v;
}

// Relative; a page that the row does not see is exactly 0.
inline void require_close(const std::vector<float>& found, const std::vector<float>& expected,
                          double tolerance, int out_pages) {
  REQUIRE(found.size() == expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    if (std::abs(double(found[i]) - expected[i]) <=
        tolerance * std::abs(expected[i]) + (expected[i] == 0 ? 0 : 1e-30))
      continue;
    CAPTURE(i / size_t(out_pages), i % size_t(out_pages), found[i], expected[i], tolerance);
    FAIL("line, page: too far from the reference");
  }
}

inline void scores_equal_reference(Backend& b, Replay& r, const ScoreOptions& o = {}) {
  CAPTURE(int(r.shape.type), r.shape.head_dim, r.shape.n_kv_heads, r.shape.group, r.shape.n_keys,
          int(o.page));
  r.prepare();
  const Scores found = run_scores(b, r, o), expected = reference_scores(r, o);
  const double tolerance = softmax_tolerance(KvType::f32, r.shape.head_dim, 12);
  require_close(found.score, expected.score, tolerance, r.out_pages);
  require_close(found.mass, expected.mass, tolerance, r.out_pages);
  require_close(found.group_mass, expected.group_mass, tolerance, r.out_pages);
}

// As on the CPU: masses relative, values relative to the page's mass times the sum of |gradient value|.
inline void values_equal_reference(Backend& b, Replay& r, bool heads_first = false) {
  CAPTURE(int(r.shape.type), r.shape.head_dim, r.shape.n_kv_heads, r.shape.group, r.shape.n_keys,
          r.n_gradients);
  r.prepare();
  const Values found = run_values(b, r, heads_first), expected = reference_values(r);
  const double dim = r.shape.head_dim, tolerance = softmax_tolerance(KvType::f32, dim, 12);
  require_close(found.mass, expected.mass, tolerance, r.out_pages);
  const double of_value = tolerance + sum_tolerance(KvType::f32, 16 * dim, 1);
  for (size_t i = 0; i < found.value.size(); ++i) {
    const double mass = expected.mass[i % expected.mass.size()];
    if (std::abs(double(found.value[i]) - expected.value[i]) <= of_value * mass * dim) continue;
    CAPTURE(i / size_t(r.out_pages), i % size_t(r.out_pages), mass, found.value[i], expected.value[i]);
    FAIL("line, page: too far from the reference");
  }
}

// Where every number goes: row j looks at dimension j alone. No softmax: the log-sum-exp is an input.
inline Replay one_dimension_a_row(Type type, int head_dim) {
  std::vector<int32_t> last(size_t(head_dim), 32);
  Replay r({type, head_dim, 1, 1, 33}, last, 5);
  std::vector<float> keys(r.keys.value.size()), unit(r.q.value.size(), 0.0f);
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = float(int(i * 2654435761u >> 20) % 33 - 16) / 8;
  for (size_t j = 0; j < size_t(head_dim); ++j) unit[j * size_t(head_dim) + j] = 1;
  r.keys = Halves(type, keys), r.values = r.keys;
  r.q = Halves(type, unit), r.gradient = unit;
  r.scale = 1;
  r.prepare();
  std::fill(r.lse.begin(), r.lse.end(), 0.0f);
  return r;
}

// Of dimension `d`, over the keys of page `u`.
template <class F>
double over_page(const Replay& r, int d, int u, F f) {
  double sum = 0;
  for (int i = u * page_size; i < std::min((u + 1) * page_size, r.shape.n_keys); ++i)
    sum += f(double(r.keys.value[size_t(i * r.shape.head_dim + d)]));
  return sum;
}

inline void scores_meet_their_dimensions(Backend& b, Type type, int head_dim) {
  const Replay r = one_dimension_a_row(type, head_dim);
  const Scores s = run_scores(b, r);
  for (int j = 0; j < head_dim; ++j)
    for (int u = 0; u < r.out_pages; ++u) {
      CAPTURE(int(type), head_dim, j, u);
      const double expected = over_page(r, j, u, [](double x) { return std::exp(x); });
      REQUIRE(std::abs(s.mass[size_t(j * r.out_pages + u)] - expected) <= 4e-6 * expected);
    }
}

inline void values_meet_their_dimensions(Backend& b, Type type, int head_dim) {
  Replay r = one_dimension_a_row(type, head_dim);
  r.q = Halves(type, std::vector<float>(r.q.value.size(), 0.0f));  // every alpha is 1
  const Values v = run_values(b, r);
  for (int j = 0; j < head_dim; ++j)
    for (int u = 0; u < r.out_pages; ++u) {
      CAPTURE(int(type), head_dim, j, u);
      REQUIRE(v.mass[size_t(j * r.out_pages + u)] == std::clamp(33 - 16 * u, 0, 16));
      REQUIRE(std::abs(v.value[size_t(j * r.out_pages + u)] -
                       over_page(r, j, u, [](double x) { return x; })) <= 1e-5);
    }
}

inline bool all_nan(const float* x, int n) {
  return std::all_of(x, x + n, [](float y) { return std::isnan(y); });
}
inline bool all_finite(const float* x, int n) {
  return std::all_of(x, x + n, [](float y) { return std::isfinite(y); });
}

// A head of row 1 without a softmax, and NaN keys and values that rows 0 and 2 do not see.
inline void bad_numbers_stay_in_their_rows(Backend& b, int head_dim) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const float lse : {nan, inf}) {
    Replay r({Type::bf16, head_dim, 2, 3, 60}, {30, 59, 40}, 21);
    r.prepare();
    const int pages = r.out_pages, heads = r.n_heads();
    r.lse[size_t(heads + 4)] = lse;  // row 1, key/value head 1
    std::fill(r.keys.bits.begin() + 41 * 2 * head_dim, r.keys.bits.end(), half_bits(Type::bf16, nan));
    const Scores s = run_scores(b, r);
    REQUIRE(all_nan(&s.score[size_t(pages)], 4));
    REQUIRE(all_nan(&s.mass[size_t(pages)], 4));
    REQUIRE(all_nan(&s.group_mass[size_t(3 * pages)], 4));
    REQUIRE(s.score[size_t(pages + 4)] == 0);
    for (const int row : {0, 2}) {
      REQUIRE(all_finite(&s.score[size_t(row * pages)], pages));
      REQUIRE(all_finite(&s.mass[size_t(row * pages)], pages));
      REQUIRE(all_finite(&s.group_mass[size_t(2 * row * pages)], 2 * pages));
    }
    r.values.bits = r.keys.bits;
    const Values v = run_values(b, r);
    REQUIRE(all_nan(&v.mass[size_t((heads + 4) * pages)], 4));
    REQUIRE(all_nan(&v.value[size_t((heads + 4) * pages)], 4));
    for (const int row : {0, 2}) {
      REQUIRE(all_finite(&v.mass[size_t(row * heads * pages)], heads * pages));
      REQUIRE(all_finite(&v.value[size_t(row * heads * pages)], heads * pages));
    }
  }
}

// Heads exchanged within their groups and groups exchanged: the same bits.
inline void exchanged_heads_score_alike(Backend& b, int n_keys) {
  const int dim = 64;
  Replay r({Type::bf16, dim, 2, 3, n_keys}, {n_keys - 1, n_keys / 2, 3}, 31), other = r;
  const int from[] = {5, 3, 4, 1, 2, 0};
  for (size_t row = 0; row < r.position.size(); ++row)
    for (size_t h = 0; h < 6; ++h)
      std::copy_n(r.q.value.begin() + long((row * 6 + size_t(from[h])) * dim), dim,
                  other.q.value.begin() + long((row * 6 + h) * dim));
  for (size_t i = 0; i < size_t(n_keys); ++i)
    for (size_t g = 0; g < 2; ++g)
      std::copy_n(r.keys.value.begin() + long((i * 2 + 1 - g) * dim), dim,
                  other.keys.value.begin() + long((i * 2 + g) * dim));
  other.q = Halves(Type::bf16, other.q.value), other.keys = Halves(Type::bf16, other.keys.value);
  r.prepare(), other.prepare();
  REQUIRE(run_scores(b, r).score == run_scores(b, other).score);
}

// What the sensitivity pass reads: g.(o~ - o) of an odd half of the pages, whose two terms nearly cancel.
inline double error_of_differences(Backend& b, Replay& r) {
  r.prepare();
  const Values found = run_values(b, r), exact = reference_values(r);
  const size_t pages = size_t(r.out_pages);
  const auto difference = [&](const Values& v, size_t line) {
    const float *mass = &v.mass[line * pages], *value = &v.value[line * pages];
    double whole = 0, all = 0, chosen = 0, kept = 0;
    for (size_t u = 0; u < pages; ++u) whole += value[u], all += mass[u];
    for (size_t u = 1; u < pages; u += 2) chosen += value[u] - whole / all * mass[u], kept += mass[u];
    return chosen / kept;
  };
  double error = 0, size = 0;
  for (size_t line = 0; line < exact.mass.size() / pages; ++line) {
    const double a = difference(found, line), e = difference(exact, line);
    error += (a - e) * (a - e), size += e * e;
  }
  return std::sqrt(error / size);
}

}  // namespace deltacal::kernels
