#include "kernels/page_score/page_score.h"

#include <omp.h>

#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "cache.h"
#include "core/error.h"
#include "kernels/select_pages/select_pages.h"
#include "kernels/tolerance.h"

namespace deltacal::kernels::page_score {
namespace {

struct Result {
  std::vector<float> score, mass, group_mass;
};

struct Call {
  Call(const TestCache& cache, int group, std::vector<int32_t> sequences, std::vector<int32_t> lengths,
       unsigned seed, float deviation = 1)
      : sequence(std::move(sequences)), length(std::move(lengths)) {
    p.kv = cache.kv();
    p.n_rows = int(length.size());
    p.n_heads = group * p.kv.n_kv_heads;
    p.scale = 1 / std::sqrt(float(p.kv.head_dim));
    p.out_pages = pages_for(*std::max_element(length.begin(), length.end())) + 2;
    q = normals(length.size() * size_t(p.n_heads) * size_t(p.kv.head_dim), seed, deviation);
  }
  Result run(void (*kernel)(const Params&)) {
    const size_t pages = length.size() * size_t(p.out_pages);
    Result result{std::vector<float>(pages, -7), std::vector<float>(pages, -7),
                  std::vector<float>(pages * size_t(p.kv.n_kv_heads), -7)};
    Params call = p;
    call.q = q.data(), call.length = length.data();
    call.sequence = sequence.empty() ? nullptr : sequence.data();
    call.score = result.score.data(), call.mass = result.mass.data(),
    call.group_mass = result.group_mass.data();
    kernel(call);
    return result;
  }
  Params p;
  std::vector<int32_t> sequence, length;
  std::vector<float> q;
};

// Relative, with the rounding of a page's sum; probabilities below 2^-126 of the largest count as 0.
double worst_error(const std::vector<float>& found, const std::vector<float>& expected) {
  double worst = found.size() == expected.size() ? 0 : 1;
  for (size_t i = 0; i < found.size(); ++i) {
    const double error = std::abs(double(found[i]) - expected[i]) / (std::abs(expected[i]) + 1e-30);
    worst = std::isfinite(found[i]) ? std::max(worst, error) : 1;
  }
  return worst;
}

// Under every way to score a page.
void require_equals_reference(Call& call, double logit_magnitude = 12) {
  const double tolerance = softmax_tolerance(KvType::f32, call.p.kv.head_dim, logit_magnitude);
  for (const Page page : {Page::sum, Page::max}) {
    call.p.page = page;
    const Result expected = call.run(reference), found = call.run(cpu);
    CAPTURE(int(page));
    REQUIRE(worst_error(found.score, expected.score) <= tolerance);
    REQUIRE(worst_error(found.mass, expected.mass) <= tolerance);
    REQUIRE(worst_error(found.group_mass, expected.group_mass) <= tolerance);
  }
  call.p.page = Page::sum;
}

std::vector<int32_t> iota(int n, int first) {
  std::vector<int32_t> x(size_t(n), 0);
  std::iota(x.begin(), x.end(), first);
  return x;
}

TEST_CASE("page score: equals the reference at every head size, group and cache type") {
  for (const KvType type : {KvType::f32, KvType::bf16}) {
    for (const int head_dim : {32, 64, 96, 128, 256}) {
      for (const int group : {1, 2, 3, 4, 7, 8}) {
        const TestCache cache(type, 2, head_dim, {75}, 1);
        Call call(cache, group, {}, {75, 1, 16, 17, 33, 34, 35}, 2);
        CAPTURE(head_dim, group, int(type));
        require_equals_reference(call);
      }
    }
  }
}

TEST_CASE("page score: equals the reference on every instruction set") {
  on_every_target([](const char* name) {
    CAPTURE(name);
    for (const KvType type : {KvType::f32, KvType::bf16}) {
      const TestCache cache(type, 3, 64, {700, 40}, 3);
      Call call(cache, 3, {0, 0, 0, 1, 0, 1}, {700, 530, 531, 40, 1, 17}, 4);
      require_equals_reference(call);
    }
  });
}

TEST_CASE("page score: one token in the last page equals the reference at every group size") {
  for (const int group : {1, 2, 3, 7}) {
    const TestCache cache(KvType::f32, 2, 64, {529}, 5);
    Call call(cache, group, {}, {257, 529, 17, 1}, 6);
    require_equals_reference(call);
  }
}

TEST_CASE("page score: 8192 pages") {
  const TestCache cache(KvType::f32, 1, 32, {8192 * 16 - 15}, 7);
  Call call(cache, 2, {}, {8192 * 16 - 15}, 8);
  require_equals_reference(call);
}

TEST_CASE("page score: random rows of several sequences equal the reference") {
  std::mt19937 random(9);
  for (int trial = 0; trial < 25; ++trial) {
    const std::vector<int> written{1 + int(random() % 900), 1 + int(random() % 100)};
    const TestCache cache(trial % 2 ? KvType::f32 : KvType::bf16, 1 + int(random() % 3), 64, written,
                          random());
    std::vector<int32_t> sequence, length;
    for (int r = 0; r < 30; ++r) {
      sequence.push_back(int(random() % 2));
      length.push_back(1 + int(random() % unsigned(written[size_t(sequence.back())])));
    }
    Call call(cache, 1 + int(random() % 5), sequence, length, random());
    CAPTURE(trial);
    require_equals_reference(call);
  }
}

TEST_CASE("page score: mass sums to 1, score lies between mass and the number of heads times mass") {
  const TestCache cache(KvType::bf16, 3, 64, {2000}, 10);
  Call call(cache, 3, {}, {2000, 1999, 33}, 11);
  const Result r = call.run(cpu);
  for (int row = 0; row < 3; ++row) {
    double sum = 0;
    for (int u = 0; u < call.p.out_pages; ++u) {
      const size_t at = size_t(row * call.p.out_pages + u);
      sum += r.mass[at];
      REQUIRE(r.score[at] >= r.mass[at] * (1 - 1e-5f));
      REQUIRE(r.score[at] <= r.mass[at] * 9 * (1 + 1e-5f));
    }
    REQUIRE(std::abs(sum - 1) < 2e-6);
  }
}

TEST_CASE("page score: all logits equal gives every page its share of the positions") {
  const TestCache cache(KvType::f32, 2, 32, {300}, 12);
  Call call(cache, 2, {}, {300}, 13);
  std::fill(call.q.begin(), call.q.end(), 0.0f);
  const Result r = call.run(cpu);
  for (int u = 0; u < 19; ++u) {
    const double share = (u < 18 ? 16 : 12) / 300.0;
    REQUIRE(std::abs(r.score[size_t(u)] - share) < 1e-7);
    REQUIRE(std::abs(r.mass[size_t(u)] - share) < 1e-7);
  }
  REQUIRE(r.score[19] == 0);
  REQUIRE(r.mass[20] == 0);
}

TEST_CASE("page score: under the maximum a page has its largest attention") {
  const TestCache cache(KvType::f32, 2, 32, {300}, 24);
  Call call(cache, 2, {}, {300}, 25);
  std::fill(call.q.begin(), call.q.end(), 0.0f);  // every alpha is 1/300
  call.p.page = Page::max;
  const Result r = call.run(cpu);
  for (int u = 0; u < 19; ++u) REQUIRE(std::abs(r.score[size_t(u)] - 1 / 300.0) < 1e-8);
  REQUIRE(r.score[19] == 0);
}

TEST_CASE("page score: masses do not know the maximum") {
  on_every_target([](const char* name) {
    CAPTURE(name);
    const TestCache cache(KvType::bf16, 3, 64, {700}, 26);
    Call call(cache, 3, {}, {700, 33, 640}, 27);
    const Result plain = call.run(cpu);
    call.p.page = Page::max;
    const Result other = call.run(cpu);
    REQUIRE(other.mass == plain.mass);
    REQUIRE(other.group_mass == plain.group_mass);
    REQUIRE(other.score != plain.score);
  });
}

TEST_CASE("page score: huge logits put all mass on one page") {
  const TestCache cache(KvType::f32, 1, 64, {700}, 14);
  Call call(cache, 3, {}, {700, 20}, 15, 1e25f);
  const Result expected = call.run(reference), found = call.run(cpu);
  for (size_t i = 0; i < found.score.size(); ++i)
    REQUIRE(std::abs(found.score[i] - expected.score[i]) < 1e-5f);
}

TEST_CASE("page score: a row's bits do not depend on the rows beside it nor on the threads") {
  on_every_target([](const char* name) {
    CAPTURE(name);
    const TestCache cache(KvType::f32, 2, 64, {640}, 16);
    Call batch(cache, 3, {}, iota(200, 440), 17);
    const Result all = batch.run(cpu);
    const size_t row = 6 * 64;
    for (const int r : {0, 7, 8, 100, 199}) {
      Call alone(cache, 3, {}, {440 + r}, 0);
      alone.p.out_pages = batch.p.out_pages;
      alone.q.assign(batch.q.begin() + long(row) * r, batch.q.begin() + long(row) * (r + 1));
      for (const int threads : {1, 2, 5}) {
        const int before = omp_get_max_threads();
        omp_set_num_threads(threads);
        const Result one = alone.run(cpu);
        omp_set_num_threads(before);
        const long pages = batch.p.out_pages;
        REQUIRE(std::equal(one.score.begin(), one.score.end(), all.score.begin() + r * pages));
        REQUIRE(std::equal(one.mass.begin(), one.mass.end(), all.mass.begin() + r * pages));
        REQUIRE(
            std::equal(one.group_mass.begin(), one.group_mass.end(), all.group_mass.begin() + 2 * r * pages));
      }
    }
  });
}

TEST_CASE("page score: what is asked for besides the score does not change it") {
  const TestCache cache(KvType::f32, 2, 64, {333}, 18);
  Call call(cache, 3, {}, iota(20, 300), 19);
  const Result all = call.run(cpu);
  std::vector<float> score(all.score.size(), -7), mass(score);
  Params p = call.p;
  p.q = call.q.data(), p.length = call.length.data(), p.score = score.data();
  cpu(p);
  REQUIRE(score == all.score);
  p.mass = mass.data();
  cpu(p);
  REQUIRE(mass == all.mass);
}

TEST_CASE(
    "page score: exchanged groups and heads give bit-equal scores and pages, masses equal to rounding") {
  const int dim = 64, length = 1601;
  TestCache cache(KvType::f32, 2, dim, {length}, 20), exchanged(KvType::f32, 2, dim, {length}, 20);
  for (int t = 0; t < length; ++t) {
    for (int g = 0; g < 2; ++g) {
      for (int d = 0; d < dim; ++d) exchanged.set_key(0, g, t, d, key_at(cache.kv(), 0, 1 - g, t, d));
    }
  }
  Call call(cache, 3, {}, {length}, 21), other(exchanged, 3, {}, {length}, 21);
  const int head_of[] = {5, 3, 4, 1, 2, 0};  // groups exchanged, heads within them permuted
  for (int h = 0; h < 6; ++h) std::copy_n(call.q.begin() + head_of[h] * dim, dim, other.q.begin() + h * dim);
  const Result a = call.run(cpu), b = other.run(cpu);
  REQUIRE(a.score == b.score);
  REQUIRE(worst_error(a.mass, b.mass) < 1e-6);
  const int32_t pages = pages_for(length);
  std::vector<int32_t> list_a(20), list_b(20);
  for (auto [score, list] : {std::pair(&a.score, &list_a), std::pair(&b.score, &list_b)}) {
    select_pages::cpu({1, 20, 4, 1e-7, score->data(), pages, &pages, list->data()});
  }
  REQUIRE(list_a == list_b);
}

TEST_CASE("page score: a NaN or infinite logit makes every page that its row sees NaN, and no other row") {
  constexpr int group = 3, dim = 64, n_heads = 2 * group;
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const auto all_nan = [](const float* x, int n) { return std::all_of(x, x + n, [](float y) { return std::isnan(y); }); };
  const auto all_finite = [](const float* x, int n) {
    return std::all_of(x, x + n, [](float y) { return std::isfinite(y); });
  };
  on_every_target([&](const char* name) {
    CAPTURE(name);
    for (const auto kernel : {reference, cpu})
      for (const float bad : {nan, inf})
        for (const int head : {0, 2, 4}) {
          const TestCache cache(KvType::f32, 2, dim, {600}, 30);
          Call call(cache, group, {}, {300, 600, 590}, 31);
          call.q[size_t((n_heads + head) * dim + 5)] = bad;  // row 1
          const Result found = call.run(kernel);
          const int pages = call.p.out_pages, seen = pages_for(600);
          REQUIRE(all_nan(&found.score[size_t(pages)], seen));
          REQUIRE(all_nan(&found.mass[size_t(pages)], seen));
          REQUIRE(all_finite(&found.score[size_t(pages + seen)], pages - seen));
          const int hit = head / group;
          REQUIRE(all_nan(&found.group_mass[size_t((2 + hit) * pages)], seen));
          REQUIRE(all_finite(&found.group_mass[size_t((3 - hit) * pages)], pages));
          for (const int row : {0, 2}) REQUIRE(all_finite(&found.score[size_t(row * pages)], pages));
        }
  });
}

TEST_CASE("page score: a NaN key is seen by the rows that see its position alone") {
  TestCache cache(KvType::bf16, 1, 64, {600}, 32);
  for (int d = 0; d < 64; ++d) cache.set_key(0, 0, 420, d, std::numeric_limits<float>::quiet_NaN());
  for (const auto kernel : {reference, cpu}) {
    Call call(cache, 2, {}, {420, 421}, 33);
    const Result found = call.run(kernel);
    const int seen = pages_for(421);
    for (int u = 0; u < seen; ++u) {
      REQUIRE(std::isfinite(found.score[size_t(u)]));
      REQUIRE(std::isnan(found.score[size_t(call.p.out_pages + u)]));
      REQUIRE(std::isnan(found.mass[size_t(call.p.out_pages + u)]));
    }
  }
}

TEST_CASE("page score: bad parameters are refused with the field's name") {
  const TestCache cache(KvType::f32, 2, 64, {100}, 22);
  const auto refused = [&](const std::string& field, auto change) {
    Call call(cache, 3, {}, {100}, 23);
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
  CHECK(refused("out_pages", [](Call& c) { c.p.out_pages = 6; }));
  CHECK(refused("length[0]", [](Call& c) { c.length[0] = -4; }));
  CHECK(refused("scale", [](Call& c) { c.p.scale = std::numeric_limits<float>::quiet_NaN(); }));
  CHECK(refused("kv.page_table", [](Call& c) { c.p.kv.page_table = nullptr; }));
}

}  // namespace
}  // namespace deltacal::kernels::page_score
