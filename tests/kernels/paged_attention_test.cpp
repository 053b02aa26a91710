#include "kernels/paged_attention/paged_attention.h"

#include <omp.h>

#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "cache.h"
#include "core/error.h"
#include "kernels/tolerance.h"

namespace deltacal::kernels::paged_attention {
namespace {

// A call and what it owns. Rows see length[r] keys of sequence[r].
struct Call {
  Call(const TestCache& cache, int group, std::vector<int32_t> sequences, std::vector<int32_t> lengths,
       unsigned seed, float deviation = 1)
      : sequence(std::move(sequences)), length(std::move(lengths)) {
    p.kv = cache.kv();
    p.n_rows = int(length.size());
    p.n_heads = group * p.kv.n_kv_heads;
    p.scale = 1 / std::sqrt(float(p.kv.head_dim));
    q = normals(length.size() * size_t(p.n_heads) * size_t(p.kv.head_dim), seed, deviation);
  }
  void set_lists(const std::vector<std::vector<int32_t>>& lists) {  // an empty list: no list
    for (const auto& l : lists) p.list_stride = std::max(p.list_stride, int(l.size()));
    list.assign(lists.size() * size_t(p.list_stride), -1), list_length.clear();
    for (size_t r = 0; r < lists.size(); ++r) {
      list_length.push_back(lists[r].empty() ? -1 : int(lists[r].size()));
      std::copy(lists[r].begin(), lists[r].end(), list.begin() + long(r) * p.list_stride);
    }
    p.list = list.data();
  }
  // [n_rows * n_heads * head_dim] outputs, then [n_rows * n_heads] log-sums
  std::vector<float> run(void (*kernel)(const Params&)) {
    const size_t heads = length.size() * size_t(p.n_heads);
    std::vector<float> result(heads * size_t(p.kv.head_dim + 1), -7.0f);
    Params call = p;
    call.q = q.data(), call.length = length.data();
    call.sequence = sequence.empty() ? nullptr : sequence.data();
    call.list_length = call.list ? list_length.data() : nullptr;
    call.out = result.data(), call.lse = result.data() + heads * size_t(p.kv.head_dim);
    kernel(call);
    return result;
  }
  Params p;
  std::vector<int32_t> sequence, length, list, list_length;
  std::vector<float> q;
};

// Outputs are averages of values of magnitude 1 (up to 5).
void require_equals_reference(Call& call, double logit_magnitude = 12) {
  const std::vector<float> expected = call.run(reference), found = call.run(cpu);
  const double tolerance = 3 * softmax_tolerance(KvType::f32, call.p.kv.head_dim, logit_magnitude);
  double worst = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    REQUIRE(std::isfinite(found[i]));
    worst = std::max(worst, std::abs(double(found[i]) - expected[i]) / (1 + std::abs(expected[i])));
  }
  REQUIRE(worst <= tolerance);
}

std::vector<int32_t> iota(int n, int first = 0) {
  std::vector<int32_t> x(size_t(n), 0);
  std::iota(x.begin(), x.end(), first);
  return x;
}

TEST_CASE("paged attention: equals the reference at every head size, group and cache type") {
  for (const KvType type : {KvType::f32, KvType::bf16}) {
    for (const int head_dim : {32, 64, 96, 128, 160, 256}) {
      for (const int group : {1, 2, 3, 4, 5, 7, 8}) {
        const TestCache cache(type, 2, head_dim, {75}, 1);
        Call call(cache, group, {}, {75, 1, 16, 17, 33, 34, 35}, 2);
        CAPTURE(head_dim, group, int(type));
        require_equals_reference(call);
      }
    }
  }
}

TEST_CASE("paged attention: equals the reference on every instruction set") {
  on_every_target([](const char* name) {
    CAPTURE(name);
    for (const KvType type : {KvType::f32, KvType::bf16}) {
      for (const int head_dim : {64, 96}) {
        const TestCache cache(type, 1, head_dim, {600, 90}, 1);
        Call call(cache, 7, {0, 0, 0, 1, 1, 0}, {600, 300, 301, 90, 17, 1}, 2);
        call.set_lists({{}, {}, {}, {5, 1, 3}, {0}, {}});
        require_equals_reference(call);
      }
    }
  });
}

TEST_CASE("paged attention: one token in the last page, one token only, one page") {
  const TestCache cache(KvType::f32, 3, 64, {545}, 3);
  for (const int length : {1, 16, 17, 256, 257, 512, 513, 545}) {
    Call call(cache, 3, {}, {length}, 4);
    CAPTURE(length);
    require_equals_reference(call);
  }
}

TEST_CASE("paged attention: a single token's output is its value") {
  const TestCache cache(KvType::f32, 2, 32, {1}, 5);
  Call call(cache, 2, {}, {1}, 6);
  const std::vector<float> out = call.run(cpu);
  for (int h = 0; h < 4; ++h) {
    for (int d = 0; d < 32; ++d) REQUIRE(out[size_t(h * 32 + d)] == value_at(cache.kv(), 0, h / 2, 0, d));
  }
}

TEST_CASE("paged attention: 8192 pages") {
  const TestCache cache(KvType::bf16, 1, 32, {8192 * 16 - 3}, 7);
  Call call(cache, 2, {}, {8192 * 16 - 3}, 8);
  require_equals_reference(call);
}

TEST_CASE("paged attention: huge logits neither overflow nor lose the largest") {
  const TestCache cache(KvType::f32, 1, 64, {700}, 9);
  for (const float deviation : {1e3f, 1e15f, 1e30f}) {
    Call call(cache, 3, {}, {700, 699, 20}, 10, deviation);
    const std::vector<float> expected = call.run(reference), found = call.run(cpu);
    const size_t outputs = 3 * 3 * 64;  // logits so far apart that one key takes all: its value comes out
    for (size_t i = 0; i < outputs; ++i) REQUIRE(std::abs(found[i] - expected[i]) < 1e-2f);
    for (size_t i = outputs; i < found.size(); ++i) {
      REQUIRE(std::abs(found[i] - expected[i]) <= 1e-5f * std::abs(expected[i]));
    }
  }
}

TEST_CASE("paged attention: all logits equal gives the mean of the values") {
  const TestCache cache(KvType::f32, 1, 32, {530}, 11);
  Call call(cache, 1, {}, {530}, 12);
  std::fill(call.q.begin(), call.q.end(), 0.0f);
  const std::vector<float> out = call.run(cpu);
  for (int d = 0; d < 32; ++d) {
    double mean = 0;
    for (int t = 0; t < 530; ++t) mean += value_at(cache.kv(), 0, 0, t, d) / 530.0;
    REQUIRE(std::abs(out[size_t(d)] - mean) < sum_tolerance(KvType::f32, 530, 1));
  }
  REQUIRE(std::abs(out[32] - std::log(530.0)) < 1e-5);
}

TEST_CASE("paged attention: a NaN query gives NaN, and in its own head alone") {
  const TestCache cache(KvType::f32, 1, 32, {300}, 13);
  Call call(cache, 2, {}, {300}, 14);
  call.q[3] = std::numeric_limits<float>::quiet_NaN();
  on_every_target([&](const char* name) {
    CAPTURE(name);
    const std::vector<float> out = call.run(cpu);
    REQUIRE(std::isnan(out[0]));
    REQUIRE(std::isfinite(out[32]));
  });
}

TEST_CASE("paged attention: several sequences, very different lengths, lists and full rows in one call") {
  for (const KvType type : {KvType::f32, KvType::bf16}) {
    const TestCache cache(type, 2, 64, {2000, 5, 333}, 15);
    Call call(cache, 4, {0, 1, 2, 0, 2, 2, 1, 0}, {2000, 5, 333, 17, 330, 331, 1, 1500}, 16);
    require_equals_reference(call);
    call.set_lists({{124, 3, 77, 0}, {0}, {}, {1, 0}, {20, 19, 18}, {}, {}, {93, 92, 5, 6, 7, 8, 1}});
    require_equals_reference(call);
  }
}

TEST_CASE("paged attention: random shapes equal the reference") {
  std::mt19937 random(17);
  const auto upto = [&](int n) { return 1 + int(random() % unsigned(n)); };
  for (int trial = 0; trial < 40; ++trial) {
    const KvType type = trial % 2 ? KvType::f32 : KvType::bf16;
    const int n_sequences = upto(3), rows = upto(40);
    std::vector<int> written;
    for (int s = 0; s < n_sequences; ++s) written.push_back(upto(900));
    const TestCache cache(type, upto(3), 32 * upto(4), written, random());
    std::vector<int32_t> sequence, length;
    std::vector<std::vector<int32_t>> lists;
    for (int r = 0; r < rows; ++r) {
      sequence.push_back(int(random() % unsigned(n_sequences)));
      length.push_back(upto(written[size_t(sequence.back())]));
      std::vector<int32_t> pages = iota(pages_for(length.back()));
      std::shuffle(pages.begin(), pages.end(), random);
      pages.resize(random() % 3 ? size_t(upto(int(pages.size()))) : 0);
      lists.push_back(pages);
    }
    Call call(cache, upto(8), sequence, length, random());
    if (trial % 4 < 2) call.set_lists(lists);
    if (call.p.list_stride == 0) call.p.list = nullptr;
    CAPTURE(trial);
    require_equals_reference(call);
  }
}

TEST_CASE("paged attention: a row's bits do not depend on the rows beside it nor on the threads") {
  on_every_target([](const char* name) {
    CAPTURE(name);
    for (const KvType type : {KvType::f32, KvType::bf16}) {
      const TestCache cache(type, 2, 64, {640}, 18);
      Call batch(cache, 3, {}, iota(200, 440), 19);
      const std::vector<float> all = batch.run(cpu);
      const size_t row = 6 * 64;
      for (const int r : {0, 7, 8, 100, 199}) {
        Call alone(cache, 3, {}, {440 + r}, 0);
        alone.q.assign(batch.q.begin() + long(row) * r, batch.q.begin() + long(row) * (r + 1));
        for (const int threads : {1, 2, 5}) {
          const int before = omp_get_max_threads();
          omp_set_num_threads(threads);
          const std::vector<float> one = alone.run(cpu);
          omp_set_num_threads(before);
          REQUIRE(std::equal(one.begin(), one.begin() + long(row), all.begin() + long(row) * r));
        }
      }
    }
  });
}

TEST_CASE("paged attention: an infinite or NaN value behind a row's length changes none of its bits") {
  TestCache cache(KvType::f32, 1, 64, {320}, 20);
  Call batch(cache, 3, {}, iota(16, 305), 21);  // one tile: lengths 305 .. 320
  const std::vector<float> before = batch.run(cpu);
  for (int d = 0; d < 64; ++d) {
    cache.set_value(0, 0, 310, d, std::numeric_limits<float>::infinity());
    cache.set_key(0, 0, 310, d, std::numeric_limits<float>::quiet_NaN());
  }
  const std::vector<float> after = batch.run(cpu);
  const long untouched = 6 * 3 * 64;  // rows of length 305 .. 310 do not see position 310
  REQUIRE(std::equal(before.begin(), before.begin() + untouched, after.begin()));
  REQUIRE(std::isnan(after[size_t(untouched)]));
}

TEST_CASE("paged attention: a list of all pages in ascending order gives the bits of no list") {
  for (const int length : {1, 16, 300, 512, 777}) {
    const TestCache cache(KvType::bf16, 2, 96, {length}, 22);
    Call call(cache, 3, {}, {length, length}, 23);
    const std::vector<float> full = call.run(cpu);
    call.set_lists({iota(pages_for(length)), iota(pages_for(length))});
    REQUIRE(call.run(cpu) == full);
  }
}

TEST_CASE("paged attention: exchanged heads and key/value groups give exchanged outputs, bit for bit") {
  const int n_heads = 6, dim = 64, length = 401;
  TestCache cache(KvType::f32, 2, dim, {length}, 24), exchanged(KvType::f32, 2, dim, {length}, 24);
  for (int t = 0; t < length; ++t) {
    for (int g = 0; g < 2; ++g) {
      for (int d = 0; d < dim; ++d) {
        exchanged.set_key(0, g, t, d, key_at(cache.kv(), 0, 1 - g, t, d));
        exchanged.set_value(0, g, t, d, value_at(cache.kv(), 0, 1 - g, t, d));
      }
    }
  }
  Call call(cache, 3, {}, {length}, 25), other(exchanged, 3, {}, {length}, 25);
  const auto head_of = [](int h) { return h < 3 ? 5 - h : 2 - (h - 3); };  // groups exchanged, heads reversed
  for (int h = 0; h < n_heads; ++h) {
    std::copy_n(call.q.begin() + head_of(h) * dim, dim, other.q.begin() + h * dim);
  }
  const std::vector<float> a = call.run(cpu), b = other.run(cpu);
  for (int h = 0; h < n_heads; ++h) {
    REQUIRE(std::equal(b.begin() + h * dim, b.begin() + (h + 1) * dim, a.begin() + head_of(h) * dim));
  }
}

TEST_CASE("paged attention: bad parameters are refused with the field's name") {
  const TestCache cache(KvType::f32, 2, 64, {100}, 26);
  const auto refused = [&](const std::string& field, auto change) {
    Call call(cache, 3, {0}, {100}, 27);
    call.set_lists({{6, 2}});
    change(call);
    try {
      call.run(cpu);
    } catch (const Error& e) {
      CAPTURE(std::string(e.what()));
      return std::string(e.what()).find(field) != std::string::npos;
    }
    return false;
  };
  CHECK(refused("n_heads", [](Call& c) { c.p.n_heads = 5; }));
  CHECK(refused("head_dim", [](Call& c) { c.p.kv.head_dim = 48; }));
  CHECK(refused("scale", [](Call& c) { c.p.scale = 0; }));
  CHECK(refused("length", [](Call& c) { c.length[0] = 0; }));
  CHECK(refused("list[0, 1]", [](Call& c) { c.list[1] = 7; }));
  CHECK(refused("list[0, 0]", [](Call& c) { c.list[0] = -1; }));
  CHECK(refused("list[0, 1] is page 6 a second time", [](Call& c) { c.list[1] = 6; }));
  CHECK(refused("list_length[0]", [](Call& c) { c.list_length[0] = 0; }));
  CHECK(refused("list_length[0]", [](Call& c) { c.list_length[0] = 3; }));
  CHECK(refused("sequence[0]", [](Call& c) { c.sequence[0] = -1, c.p.list = nullptr; }));
  CHECK(refused("sequence[0]", [](Call& c) { c.sequence[0] = -1; }));
  CHECK(refused("page 7", [](Call& c) { c.length[0] = 113, c.p.list = nullptr; }));
  CHECK(refused("kv.keys", [](Call& c) { c.p.kv.keys = nullptr; }));
  CHECK(refused("cache, expected", [](Call& c) { c.p.kv.n_pages = 1; }));
}

TEST_CASE("paged attention: no rows is no work") {
  Params p;
  cpu(p);
  reference(p);
}

}  // namespace
}  // namespace deltacal::kernels::paged_attention
