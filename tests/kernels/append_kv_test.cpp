#include "kernels/append_kv/append_kv.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <complex>
#include <string>

#include "cache.h"
#include "core/error.h"
#include "kernels/tolerance.h"

namespace deltacal::kernels::append_kv {
namespace {

struct Call {
  Call(const TestCache& cache, int n_heads, std::vector<int32_t> sequences, std::vector<int32_t> positions,
       int rotary_dim, RotaryPairs pairs, unsigned seed)
      : sequence(std::move(sequences)), position(std::move(positions)) {
    const size_t rows = position.size(), dim = size_t(cache.kv().head_dim);
    q = normals(rows * size_t(n_heads) * dim, seed);
    k = normals(rows * size_t(cache.kv().n_kv_heads) * dim, seed + 1);
    v = normals(k.size(), seed + 2);
    for (int j = 0; j < rotary_dim / 2; ++j) frequency.push_back(float(std::pow(1e5, -2.0 * j / rotary_dim)));
    p.n_rows = int(rows), p.n_heads = n_heads, p.pairs = pairs, p.rotary_dim = rotary_dim, p.kv = cache.kv();
  }
  // The queries after the call.
  std::vector<float> run(void (*kernel)(const Params&)) {
    std::vector<float> turned = q;
    Params call = p;
    call.inverse_frequency = frequency.data(), call.position = position.data();
    call.sequence = sequence.empty() ? nullptr : sequence.data();
    call.q = turned.data(), call.k = k.data(), call.v = v.data();
    kernel(call);
    return turned;
  }
  Params p;
  std::vector<int32_t> sequence, position;
  std::vector<float> q, k, v, frequency;
};

// Every element of both caches; NaN equals NaN (places never written), numbers differ by one rounding at
// most.
void require_equal_caches(const TestCache& a, const TestCache& b) {
  const PagedKv &x = a.kv(), &y = b.kv();
  const size_t n = size_t(x.n_pages) * size_t(x.n_kv_heads) * x.page_elements();
  for (size_t i = 0; i < n; ++i) {
    for (const auto& [left, right] : {std::pair(x.keys, y.keys), std::pair(x.values, y.values)}) {
      const float l = cache_element(x, left, i), r = cache_element(y, right, i);
      const double tolerance = 4 * unit_roundoff(x.type) * std::abs(r) + 1e-6;
      if (!(std::isnan(l) && std::isnan(r)) && !(std::abs(double(l) - r) <= tolerance))
        FAIL(l << " and " << r);
    }
  }
}

TEST_CASE("append: equals the reference for both pair orders, partial rotation and both cache types") {
  on_every_target([](const char* name) {
    CAPTURE(name);
    for (const KvType type : {KvType::f32, KvType::bf16}) {
      for (const RotaryPairs pairs : {RotaryPairs::neox, RotaryPairs::interleaved}) {
        for (const auto& [head_dim, rotary_dim] :
             {std::pair(64, 64), {96, 96}, {128, 32}, {32, 18}, {32, 0}}) {
          TestCache a(type, 2, head_dim, {70, 40}, 1), b(type, 2, head_dim, {70, 40}, 1);
          const std::vector<int32_t> sequence{0, 0, 1, 0, 1}, position{64, 65, 3, 15, 39};
          Call x(a, 6, sequence, position, rotary_dim, pairs, 2),
              y(b, 6, sequence, position, rotary_dim, pairs, 2);
          x.p.amplitude = y.p.amplitude = 1.25f;
          const std::vector<float> found = x.run(cpu), expected = y.run(reference);
          for (size_t i = 0; i < found.size(); ++i) REQUIRE(std::abs(found[i] - expected[i]) <= 2e-6);
          require_equal_caches(a, b);
        }
      }
    }
  });
}

TEST_CASE("append: a rotation is a product of complex numbers, accurate at far positions") {
  TestCache cache(KvType::f32, 1, 32, {16}, 3);
  for (const int position : {1, 1000, 131071, 1048575}) {
    std::vector<int32_t> table(size_t(page_of(position)) + 1,
                               0);  // all pages at one place: only the queries matter
    Call call(cache, 1, {}, {position}, 32, RotaryPairs::interleaved, 4);
    call.p.kv.page_table = table.data(), call.p.kv.max_pages = int(table.size());
    const std::vector<float> out = call.run(cpu);
    for (int j = 0; j < 16; ++j) {
      const std::complex<long double> z(call.q[size_t(2 * j)], call.q[size_t(2 * j + 1)]);
      const auto turned = z * std::polar(1.0L, (long double)(position)*call.frequency[size_t(j)]);
      REQUIRE(std::abs(out[size_t(2 * j)] - turned.real()) < 1e-6);
      REQUIRE(std::abs(out[size_t(2 * j + 1)] - turned.imag()) < 1e-6);
    }
  }
}

TEST_CASE("append: many rows equal the same rows one by one, bit for bit, and touch nothing else") {
  for (const KvType type : {KvType::f32, KvType::bf16}) {
    TestCache all(type, 3, 64, {300}, 5), single(type, 3, 64, {300}, 5);
    std::vector<int32_t> position(200);
    std::iota(position.begin(), position.end(), 57);
    Call batch(all, 9, {}, position, 64, RotaryPairs::neox, 6);
    const std::vector<float> together = batch.run(cpu);
    for (size_t r = 0; r < position.size(); ++r) {
      Call one(single, 9, {}, {position[r]}, 64, RotaryPairs::neox, 0);
      const auto row = [&](const std::vector<float>& x, size_t n) {
        return std::vector<float>(x.begin() + long(r * n), x.begin() + long((r + 1) * n));
      };
      one.q = row(batch.q, 9 * 64), one.k = row(batch.k, 3 * 64), one.v = row(batch.v, 3 * 64);
      REQUIRE(one.run(cpu) == row(together, 9 * 64));
    }
    const PagedKv &a = all.kv(), &b = single.kv();
    const size_t bytes = size_t(a.n_pages) * 3 * a.page_elements() * (type == KvType::f32 ? 4 : 2);
    const auto same = [&](const void* x, const void* y) {
      return std::equal((const char*)x, (const char*)x + bytes, (const char*)y);
    };
    REQUIRE(same(a.keys, b.keys));
    REQUIRE(same(a.values, b.values));
  }
}

TEST_CASE("append: bfloat16 rounds to nearest, ties to even, and keeps NaN and infinity") {
  CHECK(to_bf16(1.0f).bits == 0x3f80);
  CHECK(to_bf16(std::bit_cast<float>(0x3f808000u)).bits == 0x3f80);  // a tie: down to even
  CHECK(to_bf16(std::bit_cast<float>(0x3f818000u)).bits == 0x3f82);  // a tie: up to even
  CHECK(to_bf16(std::bit_cast<float>(0x3f808001u)).bits == 0x3f81);
  CHECK(to_bf16(std::bit_cast<float>(0x7f7fffffu)).bits == 0x7f80);  // the largest float rounds to infinity
  CHECK(to_bf16(-std::numeric_limits<float>::infinity()).bits == 0xff80);
  CHECK(std::isnan(to_float(to_bf16(std::bit_cast<float>(0x7f800001u)))));
}

TEST_CASE("append: bad parameters are refused with the field's name") {
  const TestCache cache(KvType::f32, 2, 64, {100}, 7);
  const auto refused = [&](const std::string& field, auto change) {
    Call call(cache, 4, {0}, {99}, 64, RotaryPairs::neox, 8);
    change(call);
    try {
      call.run(cpu);
    } catch (const Error& e) {
      CAPTURE(std::string(e.what()));
      return std::string(e.what()).find(field) != std::string::npos;
    }
    return false;
  };
  CHECK(refused("rotary_dim", [](Call& c) { c.p.rotary_dim = 66; }));
  CHECK(refused("rotary_dim", [](Call& c) { c.p.rotary_dim = 31; }));
  CHECK(refused("position[0]", [](Call& c) { c.position[0] = -1; }));
  CHECK(refused("page 7", [](Call& c) { c.position[0] = 112; }));
  CHECK(refused("sequence[0]", [](Call& c) { c.sequence[0] = -2; }));
  CHECK(refused("n_heads", [](Call& c) { c.p.n_heads = 3; }));
}

}  // namespace
}  // namespace deltacal::kernels::append_kv
