#include "kernels/page_score/page_score.h"

#include "attention.h"
#include "kernels/page_score/cuda.h"

namespace deltacal::kernels::cuda::page_score {
namespace {

using paged_attention::Call;
using paged_attention::Workspace;

struct Scores {
  std::vector<float> score, mass, group_mass;
};

// What lies around the records of a call, and in those of pages that no row sees: nothing is written there,
// and nothing dropped. The records begin at no line of 128 bytes.
constexpr size_t around = 256 + 32;
constexpr char mark = 0x5a;
void require_untouched(const std::vector<char>& memory, const Call& call, int max_pages) {
  const size_t kv_heads = size_t(call.cache.host().n_kv_heads),
               record = size_t(record_bytes(call.n_heads / int(kv_heads)));
  size_t touched = 0;
  const auto look = [&](size_t first, size_t end) {
    for (size_t i = first; i < end; ++i) touched += memory[i] != mark;
  };
  look(0, around);
  look(memory.size() - around, memory.size());
  for (size_t i = 0; i < call.length.size() * kv_heads; ++i) {
    const size_t row = around + i * size_t(max_pages) * record;
    look(row + size_t(pages_for(call.length[i / kv_heads])) * record, row + size_t(max_pages) * record);
  }
  REQUIRE(touched == 0);
}

Scores on_device(Call& call, Page page, int out_pages, bool masses = true, bool last_use = false) {
  const size_t rows = call.length.size(), kv_heads = size_t(call.cache.host().n_kv_heads);
  const int max_pages = out_pages + 1;
  Array<char> records(records_bytes(int(rows), call.n_heads, int(kv_heads), max_pages) + 2 * around,
                      static_cast<unsigned char>(mark));
  Array<float> lse2(call.heads());
  Array<float> score(rows * size_t(out_pages)), mass(rows * size_t(out_pages)),
      group(rows * size_t(out_pages) * kv_heads);
  Array<int32_t> length(call.length);
  const PageLogits logits{max_pages, records.get() + around, lse2.get()};
  Workspace workspace(int(rows), call.n_heads, call.cache.kv());
  call.on_device(workspace, logits);
  Params p;
  p.n_rows = int(rows), p.n_heads = call.n_heads, p.n_kv_heads = int(kv_heads), p.logits = logits,
  p.length = length.get();
  p.page = page, p.out_pages = out_pages, p.last_use = last_use;
  p.score = score.get();
  if (masses) p.mass = mass.get(), p.group_mass = group.get();
  run(p, {});
  require_untouched(records.read(), call, max_pages);
  return {score.read(), mass.read(), group.read()};
}

Scores expected(const Call& call, Page page, int out_pages) {
  const size_t rows = call.length.size();
  Scores s{std::vector<float>(rows * size_t(out_pages)), std::vector<float>(rows * size_t(out_pages)),
           std::vector<float>(rows * size_t(out_pages) * size_t(call.cache.host().n_kv_heads))};
  kernels::page_score::Params p;
  p.n_rows = int(rows), p.n_heads = call.n_heads, p.scale = call.scale, p.q = call.q.data(),
  p.kv = call.cache.host();
  p.sequence = call.sequence.data(), p.length = call.length.data();
  p.page = page, p.out_pages = out_pages, p.score = s.score.data(), p.mass = s.mass.data(),
  p.group_mass = s.group_mass.data();
  kernels::page_score::reference(p);
  return s;
}

// Roots r_i of a head's probabilities, of which the largest is 1, are rounded to steps of 2 h = 1/255 and
// then squared: a sum over 16 keys is off by 15 (2 r h + h^2) / (1 + 15 r^2) of itself at most, that is by
// sqrt(15) h = 0.0076 < 2^-7 at most, where r^2 = 1/15. So is a sum of maxima over heads: each head's root is
// off by h times that head's largest, hence the maximum by h times the page's largest, and the key that has
// this is not off at all. Probabilities below 2^-100 count as 0.
constexpr double sum_error = 0x1p-7, largest_error = 1e-5;
// In the mean of squares over many pages: errors of roots are as good as independent, of variance h^2 / 3. A
// sum S of one head's keys then has 2 h / sqrt(3) sqrt(S - 1) / S of itself, h / sqrt(3) = 1.2 2^-10 at most
// (S = 2). Found to hold for maxima over heads too, of random keys; of keys made for it, it does not.
constexpr double usual_error = 1.2 * 0x1p-10;

void require_near(const std::vector<float>& found, const std::vector<float>& expected, double tolerance) {
  REQUIRE(found.size() == expected.size());
  double squares = 0;
  size_t n = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    CAPTURE(i, found[i], expected[i]);
    REQUIRE(std::abs(double(found[i]) - expected[i]) <= tolerance * std::abs(expected[i]) + 1e-30);
    if (expected[i] > 1e-30f) squares += std::pow(double(found[i]) / expected[i] - 1, 2), ++n;
  }
  REQUIRE(std::sqrt(squares / double(n)) <= usual_error);
}

int out_pages_of(const Call& call) {
  return pages_for(*std::max_element(call.length.begin(), call.length.end())) + 2;
}

void require_equals_reference(Call& call) {
  const int out_pages = out_pages_of(call);
  for (const Page page : {Page::sum, Page::max}) {
    CAPTURE(int(page));
    const Scores found = on_device(call, page, out_pages), right = expected(call, page, out_pages);
    require_near(found.score, right.score, page == Page::sum ? sum_error : largest_error);
    require_near(found.mass, right.mass, sum_error);
    require_near(found.group_mass, right.group_mass, sum_error);
    REQUIRE(on_device(call, page, out_pages, false).score == found.score);
  }
}

TEST_CASE("cuda page score: equals the reference at every head size, group and type") {
  NEEDS_DEVICE;
  for (const Type type : both_types) {
    for (const int head_dim : {64, 96, 128, 256}) {
      for (const int group : {1, 3, 5, 7, 8, 9, 16, 20}) {
        DeviceCache cache(type, 2, head_dim, {75}, 1);
        Call call(cache, group, {}, {75, 1, 16, 17, 33, 34, 35}, 2);
        CAPTURE(head_dim, group, int(type));
        require_equals_reference(call);
      }
    }
  }
}

TEST_CASE("cuda page score: rows of very different length, and one token in the last page") {
  NEEDS_DEVICE;
  DeviceCache cache(Type::bf16, 4, 128, {2049, 500}, 3);
  Call call(cache, 7, {0, 1, 0, 1}, {2049, 500, 17, 1}, 4);
  require_equals_reference(call);
}

TEST_CASE("cuda page score: rows of many lengths, idle ones among them") {
  NEEDS_DEVICE;
  DeviceCache cache(Type::bf16, 1, 64, {700, 400}, 13);
  std::vector<int> sequence;
  std::vector<int32_t> length;
  for (int r = 0; r < 30; ++r)
    sequence.push_back(r % 2), length.push_back(r % 2 ? 400 - 5 * r : 700 - r * r / 2);
  Call call(cache, 3, sequence, length, 14);
  require_equals_reference(call);
  const int out_pages = out_pages_of(call);
  const Scores all = on_device(call, Page::sum, out_pages);
  const auto same = [](float a, float b) { return std::abs(a - b) <= 1e-5f * b; };
  for (const size_t r : {0, 9, 10, 29}) call.length[r] = 0;
  const Scores some = on_device(call, Page::sum, out_pages);
  for (size_t i = 0; i < all.score.size(); ++i) {
    CAPTURE(i);
    if (call.length[i / size_t(out_pages)] == 0) {
      REQUIRE(std::isnan(some.score[i]));  // as the array was
      REQUIRE(std::isnan(some.mass[i]));
    } else {
      REQUIRE(same(some.score[i], all.score[i]));
      REQUIRE(same(some.mass[i], all.mass[i]));
    }
  }
}

TEST_CASE("cuda page score: three tiles a warp, more than a ring has stages, over rows and idle ones") {
  NEEDS_DEVICE;
  // Of 13 tiles each, for 4 blocks of 8 warps an SM.
  const int rows = 3 * 4 * 8 * current_device().n_sms / 13 + 10;
  DeviceCache cache(Type::bf16, 1, 64, {760, 700}, 19);
  std::vector<int> sequence;
  std::vector<int32_t> length;
  for (int r = 0; r < rows; ++r) sequence.push_back(r % 2), length.push_back(r % 2 ? 700 - r % 64 : 760);
  Call call(cache, 3, sequence, length, 20);
  require_equals_reference(call);
  for (size_t r = 3; r < call.length.size(); r += 7) call.length[r] = 0;
  const int out_pages = out_pages_of(call);
  const Scores kept = on_device(call, Page::sum, out_pages),
               last = on_device(call, Page::sum, out_pages, true, true);
  for (size_t i = 0; i < kept.score.size(); ++i) {
    const bool idle = call.length[i / size_t(out_pages)] == 0;
    REQUIRE((idle ? std::isnan(last.score[i]) : last.score[i] == kept.score[i]));
  }
}

TEST_CASE("cuda page score: heads so many that the rings shrink, to one stage of one warp") {
  NEEDS_DEVICE;
  for (const auto& [kv_heads, group] : {std::pair(12, 8), {40, 3}, {48, 16}}) {
    CAPTURE(kv_heads, group);
    DeviceCache cache(Type::f16, kv_heads, 64, {90}, 15);
    // Of two tiles each: with masses three a warp where a block has one, and an SM two.
    std::vector<int32_t> length(3 * size_t(current_device().n_sms) + 5, 17);
    length[0] = 90;
    Call call(cache, group, std::vector<int>(length.size(), 0), length, 16);
    require_equals_reference(call);
  }
}

// Times log2(e); -infinity past the row's length.
double logit_of(const Call& call, size_t r, int h, int t) {
  if (t >= call.length[r]) return -INFINITY;
  const kernels::PagedKv& kv = call.cache.host();
  const float* q = call.q.data() + (r * size_t(call.n_heads) + size_t(h)) * size_t(kv.head_dim);
  double sum = 0;
  for (int d = 0; d < kv.head_dim; ++d)
    sum += double(q[d]) * key_at(kv, call.sequence[r], h / (call.n_heads / kv.n_kv_heads), t, d);
  return sum * call.scale / std::log(2.0);
}

// One head's part of a page's record, against the page's logits.
void require_kept(const uint8_t* record, int group, int in_group, const std::vector<double>& logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  float maximum = 0;
  std::memcpy(&maximum, record + group * page_size + in_group * 4, sizeof maximum);
  REQUIRE(std::abs(maximum - largest) <= 1e-5);
  for (int i = 0; i < page_size; ++i) {
    const int lane = i / 4, t = 2 * lane + i % 2 + i % 4 / 2 * 8;  // as the matrix product has them
    CAPTURE(t);
    const double root = root_steps * std::exp2((logits[size_t(t)] - largest) / 2);
    REQUIRE(std::abs(record[in_group * page_size + i] - root) <= 0.51);
  }
}

TEST_CASE("cuda page score: attention keeps each root rounded to the nearest step, each maximum in full") {
  NEEDS_DEVICE;
  for (const int group : {1, 4, 7, 8, 9, 20}) {
    DeviceCache cache(Type::bf16, 2, 64, {75}, 23);
    Call call(cache, group, {}, {75, 33}, 24);
    const int max_pages = 6;
    Array<uint8_t> records(records_bytes(2, call.n_heads, 2, max_pages));
    Array<float> lse2(call.heads());
    Workspace workspace(2, call.n_heads, cache.kv());
    call.on_device(workspace, {max_pages, records.get(), lse2.get()});
    const std::vector<uint8_t> kept = records.read();
    for (size_t r = 0; r < 2; ++r) {
      for (int h = 0; h < call.n_heads; ++h) {
        for (int u = 0; u < pages_for(call.length[r]); ++u) {
          CAPTURE(group, r, h, u);
          std::vector<double> logits;
          for (int t = 0; t < page_size; ++t) logits.push_back(logit_of(call, r, h, u * page_size + t));
          const size_t record = (r * 2 + size_t(h / group)) * size_t(max_pages) + size_t(u);
          require_kept(kept.data() + record * size_t(record_bytes(group)), group, h % group, logits);
        }
      }
    }
  }
}

TEST_CASE("cuda page score: probabilities that rounding changes most stay within the bound, and reach it") {
  NEEDS_DEVICE;
  DeviceCache cache(Type::bf16, 1, 64, {32}, 21);
  for (int t = 0; t < 32; ++t)
    for (int d = 0; d < 64; ++d) cache.host_cache().set_key(0, 0, t, d, d == 0 && t % 16 != 5 ? -1 : 0);
  cache.upload();
  Call call(cache, 1, {}, {32}, 22);
  for (size_t d = 0; d < call.q.size(); ++d) call.q[d] = d == 0;
  call.scale =
      float(-2 * std::log(65.501 / root_steps));  // one key of each page has 1, the others exp(-scale)
  for (const float score : on_device(call, Page::sum, 2).score) {
    CHECK(std::abs(score / 0.5 - 1) <= sum_error);
    CHECK(std::abs(score / 0.5 - 1) >= 0.95 * sum_error);
  }
  for (const float score : on_device(call, Page::max, 2).score)
    CHECK(std::abs(score - 0.5 / (1 + 15 * std::exp(-double(call.scale)))) < largest_error);
}

TEST_CASE("cuda page score: logits so far apart that one key takes all") {
  NEEDS_DEVICE;
  DeviceCache cache(Type::bf16, 2, 64, {300}, 5);
  Call call(cache, 3, {}, {300}, 6, 1e6f);
  const int out_pages = out_pages_of(call);
  const Scores found = on_device(call, Page::sum, out_pages), right = expected(call, Page::sum, out_pages);
  for (size_t i = 0; i < found.score.size(); ++i) REQUIRE(std::abs(found.score[i] - right.score[i]) < 1e-3);
}

TEST_CASE("cuda page score: a head without a softmax makes every page of the row NaN, and of no other row") {
  NEEDS_DEVICE;
  DeviceCache cache(Type::bf16, 2, 64, {100}, 7);
  Call call(cache, 3, {}, {100, 100}, 8);
  call.q[5] = std::numeric_limits<float>::quiet_NaN();
  const Scores found = on_device(call, Page::sum, 9);
  for (size_t u = 0; u < 9; ++u) {
    CAPTURE(u);
    CHECK(std::isnan(found.score[u]) == (u < 7));
    CHECK(std::isnan(found.mass[u]) == (u < 7));
    CHECK(std::isnan(found.group_mass[u]) == (u < 7));
    CHECK(!std::isnan(found.group_mass[9 + u]));
    CHECK(!std::isnan(found.score[9 + u]));
  }
}

TEST_CASE("cuda page score: an infinite logit makes every page of the row NaN") {
  NEEDS_DEVICE;
  DeviceCache cache(Type::bf16, 1, 64, {100}, 9);
  for (int d = 0; d < 64; ++d)
    cache.host_cache().set_key(0, 0, 50, d, d == 3 ? std::numeric_limits<float>::infinity() : 1);
  cache.upload();
  Call call(cache, 3, {}, {100}, 10);
  for (float& x : call.q) x = std::abs(x) + 0.5f;
  for (float& x : call.q) x = rounded(Type::bf16, x);
  const Scores found = on_device(call, Page::sum, 7);
  for (size_t u = 0; u < 7; ++u) CHECK(std::isnan(found.score[u]));
}

TEST_CASE("cuda page score: the last use of the records gives the same scores") {
  NEEDS_DEVICE;
  for (const int group : {3, 6, 7, 9}) {
    CAPTURE(group);
    DeviceCache cache(Type::bf16, 2, 64, {1000}, 17);
    Call call(cache, group, {}, {1000, 77, 500}, 18);
    const int out_pages = out_pages_of(call);
    const Scores kept = on_device(call, Page::sum, out_pages),
                 last = on_device(call, Page::sum, out_pages, true, true);
    REQUIRE(kept.score == last.score);
    REQUIRE(kept.mass == last.mass);
  }
}

TEST_CASE("cuda page score: masses sum to 1") {
  NEEDS_DEVICE;
  DeviceCache cache(Type::f16, 2, 128, {1500}, 11);
  Call call(cache, 7, {}, {1500, 900}, 12);
  const Scores found = on_device(call, Page::sum, out_pages_of(call));
  const size_t pages = found.mass.size() / 2;
  for (size_t r = 0; r < 2; ++r) {
    double sum = 0;
    for (size_t u = 0; u < pages; ++u) sum += found.mass[r * pages + u];
    CHECK(std::abs(sum - 1) < 1e-3);
  }
}

}  // namespace
}  // namespace deltacal::kernels::cuda::page_score
