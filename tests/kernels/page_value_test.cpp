#include "kernels/page_value/page_value.h"

#include <omp.h>

#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "cache.h"
#include "core/error.h"
#include "kernels/paged_attention/paged_attention.h"
#include "kernels/tolerance.h"

namespace deltacal::kernels::page_value {
namespace {

struct Result {
  std::vector<float> mass, value;
};

struct Call {
  Call(const TestCache& cache, int group, int n_gradients, std::vector<int32_t> sequences,
       std::vector<int32_t> lengths, unsigned seed, float deviation = 1)
      : sequence(std::move(sequences)), length(std::move(lengths)) {
    p.kv = cache.kv();
    p.n_rows = int(length.size());
    p.n_heads = group * p.kv.n_kv_heads;
    p.n_gradients = n_gradients;
    p.scale = 1 / std::sqrt(float(p.kv.head_dim));
    p.out_pages = pages_for(*std::max_element(length.begin(), length.end())) + 2;
    const size_t heads = length.size() * size_t(p.n_heads) * size_t(p.kv.head_dim);
    q = normals(heads, seed, deviation);
    gradient = normals(heads * size_t(n_gradients), seed + 1000);
  }
  size_t rows() const { return length.size() * size_t(p.n_heads); }
  Result run(void (*kernel)(const Params&)) {
    Result result{std::vector<float>(rows() * size_t(p.out_pages), -7),
                  std::vector<float>(rows() * size_t(p.out_pages * p.n_gradients), -7)};
    Params call = p;
    call.q = q.data(), call.gradient = gradient.data(), call.length = length.data();
    call.sequence = sequence.empty() ? nullptr : sequence.data();
    call.mass = result.mass.data(), call.value = result.value.data();
    kernel(call);
    return result;
  }
  Params p;
  std::vector<int32_t> sequence, length;
  std::vector<float> q, gradient;
};

// Mass: relative. A value is a sum of products of a probability, a gradient and a value, each about 1, over
// the 16 head_dim elements of a page: relative to the page's mass times the sum of |gradient value|, about
// 0.64 head_dim.
void require_equals_reference(Call& call, double logit_magnitude = 12) {
  const Result expected = call.run(reference), found = call.run(cpu);
  const double dim = call.p.kv.head_dim, pages = call.p.out_pages;
  const double tolerance = softmax_tolerance(KvType::f32, dim, logit_magnitude);
  for (size_t i = 0; i < found.mass.size(); ++i) {
    REQUIRE(std::isfinite(found.mass[i]));
    REQUIRE(std::abs(found.mass[i] - expected.mass[i]) <= tolerance * expected.mass[i] + 1e-30);
  }
  const double of_value = tolerance + sum_tolerance(KvType::f32, 16 * dim, 1);
  for (size_t i = 0; i < found.value.size(); ++i) {
    const double mass = expected.mass[i % expected.mass.size()];
    CAPTURE(i / size_t(pages), i % size_t(pages), mass);
    REQUIRE(std::isfinite(found.value[i]));
    REQUIRE(std::abs(found.value[i] - expected.value[i]) <= of_value * mass * dim + 1e-30);
  }
}

TEST_CASE("page value: equals the reference at every head size, group and cache type") {
  for (const KvType type : {KvType::f32, KvType::bf16}) {
    for (const int head_dim : {32, 64, 96, 128, 256}) {
      for (const int group : {1, 2, 3, 7}) {
        const TestCache cache(type, 2, head_dim, {75}, 1);
        Call call(cache, group, 2, {}, {75, 1, 16, 17, 33, 34, 35}, 2);
        CAPTURE(head_dim, group, int(type));
        require_equals_reference(call);
      }
    }
  }
}

TEST_CASE("page value: equals the reference on every instruction set") {
  on_every_target([](const char* name) {
    CAPTURE(name);
    const TestCache cache(KvType::bf16, 3, 64, {700, 40}, 3);
    Call call(cache, 3, 1, {0, 0, 0, 1, 0, 1}, {700, 530, 531, 40, 1, 17}, 4);
    require_equals_reference(call);
  });
}

TEST_CASE("page value: random rows of several sequences equal the reference") {
  std::mt19937 random(9);
  for (int trial = 0; trial < 12; ++trial) {
    const std::vector<int> written{1 + int(random() % 900), 1 + int(random() % 100)};
    const TestCache cache(trial % 2 ? KvType::f32 : KvType::bf16, 1 + int(random() % 3), 64, written,
                          random());
    std::vector<int32_t> sequence, length;
    for (int r = 0; r < 30; ++r) {
      sequence.push_back(int(random() % 2));
      length.push_back(1 + int(random() % unsigned(written[size_t(sequence.back())])));
    }
    Call call(cache, 1 + int(random() % 5), 1 + int(random() % 3), sequence, length, random());
    CAPTURE(trial);
    require_equals_reference(call);
  }
}

TEST_CASE("page value: masses sum to 1, values to the gradient's product with the attention output") {
  const TestCache cache(KvType::f32, 2, 64, {1000}, 5);
  Call call(cache, 3, 2, {}, {1000, 999, 33}, 6);
  const Result r = call.run(cpu);
  std::vector<float> out(call.q.size());
  paged_attention::Params attention;
  attention.n_rows = call.p.n_rows, attention.n_heads = call.p.n_heads, attention.scale = call.p.scale;
  attention.q = call.q.data(), attention.kv = call.p.kv, attention.length = call.length.data();
  attention.out = out.data();
  paged_attention::cpu(attention);
  for (size_t n = 0; n < 2; ++n) {
    for (size_t row = 0; row < call.rows(); ++row) {
      double mass = 0, value = 0, expected = 0;
      for (size_t u = 0; u < size_t(call.p.out_pages); ++u) {
        mass += r.mass[row * size_t(call.p.out_pages) + u];
        value += r.value[(n * call.rows() + row) * size_t(call.p.out_pages) + u];
      }
      for (size_t d = 0; d < 64; ++d)
        expected += double(out[row * 64 + d]) * call.gradient[(n * call.rows() + row) * 64 + d];
      REQUIRE(std::abs(mass - 1) < 2e-6);
      REQUIRE(std::abs(value - expected) < 1e-4);
    }
  }
}

TEST_CASE("page value: huge logits put everything on one page") {
  const TestCache cache(KvType::f32, 1, 64, {700}, 14);
  Call call(cache, 3, 1, {}, {700, 20}, 15, 1e25f);
  const Result expected = call.run(reference), found = call.run(cpu);
  for (size_t i = 0; i < found.mass.size(); ++i) {
    REQUIRE(std::abs(found.mass[i] - expected.mass[i]) < 1e-5f);
    REQUIRE(std::abs(found.value[i] - expected.value[i]) < 1e-4f);
  }
}

TEST_CASE("page value: a row's bits do not depend on the rows beside it nor on the threads") {
  const TestCache cache(KvType::f32, 2, 64, {640}, 16);
  std::vector<int32_t> lengths(100);
  std::iota(lengths.begin(), lengths.end(), 541);
  Call batch(cache, 3, 1, {}, lengths, 17);
  const Result all = batch.run(cpu);
  const long row = 6 * 64, pages = 6 * batch.p.out_pages;
  for (const int r : {0, 7, 50, 99}) {
    Call alone(cache, 3, 1, {}, {541 + r}, 0);
    alone.p.out_pages = batch.p.out_pages;
    alone.q.assign(batch.q.begin() + row * r, batch.q.begin() + row * (r + 1));
    alone.gradient.assign(batch.gradient.begin() + row * r, batch.gradient.begin() + row * (r + 1));
    for (const int threads : {1, 3}) {
      const int before = omp_get_max_threads();
      omp_set_num_threads(threads);
      const Result one = alone.run(cpu);
      omp_set_num_threads(before);
      REQUIRE(std::equal(one.mass.begin(), one.mass.end(), all.mass.begin() + r * pages));
      REQUIRE(std::equal(one.value.begin(), one.value.end(), all.value.begin() + r * pages));
    }
  }
}

TEST_CASE("page value: bad parameters are refused with the field's name") {
  const TestCache cache(KvType::f32, 2, 64, {100}, 22);
  const auto refused = [&](const std::string& field, auto change) {
    Call call(cache, 3, 1, {}, {100}, 23);
    change(call);
    try {
      call.run(cpu);
    } catch (const Error& e) {
      CAPTURE(std::string(e.what()));
      return std::string(e.what()).find(field) != std::string::npos;
    }
    return false;
  };
  CHECK(refused("n_heads", [](Call& c) { c.p.n_heads = 1; }));
  CHECK(refused("n_gradients", [](Call& c) { c.p.n_gradients = 0; }));
  CHECK(refused("out_pages", [](Call& c) { c.p.out_pages = 6; }));
  CHECK(refused("length[0]", [](Call& c) { c.length[0] = -4; }));
}

}  // namespace
}  // namespace deltacal::kernels::page_value
