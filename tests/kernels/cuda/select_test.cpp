#include "device.h"
#include "kernels/select_pages/cuda.h"
#include "kernels/select_pages/select_pages.h"

namespace deltacal::kernels::cuda::select_pages {
namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();
using List = std::vector<int32_t>;

// Rows of `stride` scores; row r has length[r] keys.
List on_device(const std::vector<float>& score, int stride, const std::vector<int32_t>& length, int k, int l,
               double bias = 1e-7) {
  Array<float> s(score);
  Array<int32_t> n(length), list(length.size() * size_t(k));
  Params p;
  p.n_rows = int(length.size()), p.k_pages = k, p.l_pages = l, p.position_bias = bias;
  p.score = score.empty() ? nullptr : s.get(), p.score_stride = stride, p.length = n.get(),
  p.list = list.get();
  run(p, {});
  return list.read();
}

List expected(const std::vector<float>& score, int stride, const std::vector<int32_t>& length, int k, int l,
              double bias = 1e-7) {
  List list(length.size() * size_t(k), -9), pages;
  for (const int32_t n : length) pages.push_back(pages_for(n));
  kernels::select_pages::reference(
      {int(length.size()), k, l, bias, score.data(), stride, pages.data(), list.data()});
  return list;
}

List select(const std::vector<float>& score, int k, int l, double bias = 1e-7) {
  return on_device(score, int(score.size()), {int32_t(score.size()) * page_size - 3}, k, l, bias);
}

TEST_CASE("cuda select pages: the named cases of the CPU's kernel") {
  NEEDS_DEVICE;
  CHECK(select({0.1f, 0.5f, 0.3f, 0.9f, 0.0f, 0.0f}, 4, 2) == List{5, 4, 3, 1});
  CHECK(select({0.1f, 0.5f, 0.3f, 0.9f, 0.0f, 0.0f}, 1, 1) == List{5});
  CHECK(select({0.2f, 0.7f, 0.1f}, 6, 1) == List{2, 1, 0, -1, -1, -1});
  CHECK(select({0.2f, 0.7f}, 5, 4) == List{1, 0, -1, -1, -1});
  const std::vector<float> equal(40, 0.25f);
  CHECK(select(equal, 6, 2, 0) == List{39, 38, 0, 1, 2, 3});
  CHECK(select(equal, 6, 2, 1e-7) == List{39, 38, 0, 1, 2, 3});
  const float above = std::nextafter(1.0f, 2.0f);
  CHECK(select({1.0f, 1.0f, 1.0f, above, 0.0f}, 3, 1, 1e-8) == List{4, 3, 0});
  CHECK(select({1.0f, 1.0f, 1.0f, above, 0.0f}, 3, 1, 1e-6) == List{4, 0, 1});
  CHECK(select({nan, 0.0f, -5.0f, nan, -infinity, 0.1f, 0.0f}, 7, 1) == List{6, 5, 1, 2, 0, 3, 4});
  CHECK(select({nan, nan, nan, nan}, 3, 1) == List{3, 0, 1});
  CHECK(select({0.0f, infinity, 1.0f, 0.0f}, 3, 1) == List{3, 1, 2});
  CHECK(select({nan}, 1, 1) == List{0});
}

TEST_CASE("cuda select pages: L = K never reads the score") {
  NEEDS_DEVICE;
  for (const int pages : {1, 2, 100}) {
    const List list = on_device({}, 0, {pages * 16}, 4, 4);
    for (int i = 0; i < 4; ++i) CHECK(list[size_t(i)] == (i < pages ? pages - 1 - i : -1));
  }
}

TEST_CASE("cuda select pages: an idle row's list is empty") {
  NEEDS_DEVICE;
  CHECK(on_device({1, 2, 3, 4}, 2, {0, 32}, 3, 1) == List{-1, -1, -1, 1, 0, -1});
}

TEST_CASE("cuda select pages: equals the reference on random rows, ties and NaN included") {
  NEEDS_DEVICE;
  std::mt19937 random(2);
  const int rows = 300, stride = 700;
  std::vector<float> score(size_t(rows * stride));
  for (float& s : score) {
    const unsigned kind = random() % 20;
    s = kind == 0 ? nan : kind < 5 ? 0.5f : float(random()) / 4e9f;
  }
  std::vector<int32_t> length;
  for (int r = 0; r < rows; ++r) length.push_back(1 + int(random() % (stride * 16)));
  for (const auto& [k, l] : {std::pair(1, 1), {32, 4}, {64, 1}, {700, 8}, {8, 8}}) {
    CAPTURE(k, l);
    REQUIRE(on_device(score, stride, length, k, l) == expected(score, stride, length, k, l));
  }
}

TEST_CASE(
    "cuda select pages: 2048, 2049 and 8192 pages, rising, falling, equal and peaked scores, up to the whole "
    "ranking") {
  NEEDS_DEVICE;
  std::mt19937 random(3);
  for (const int pages : {2048, 2049, 8192}) {
    std::vector<float> score;
    for (int u = 0; u < pages; ++u) score.push_back(float(u));
    for (int u = 0; u < pages; ++u) score.push_back(float(-u));
    for (int u = 0; u < pages; ++u) score.push_back(0.5f);
    for (int u = 0; u < pages; ++u) score.push_back(std::exp(-float(random() % 100000) / 5000));
    for (int u = 0; u < pages; ++u) score.push_back(u % 3 ? 0.125f : 0.25f);
    const std::vector<int32_t> length(5, pages * page_size);
    for (const double bias : {1e-7, 0.0}) {
      for (const auto& [k, l] : {std::pair(64, 8), {128, 4}, {512, 1}, {2000, 4}, {8192, 8}}) {
        CAPTURE(pages, bias, k, l);
        REQUIRE(on_device(score, pages, length, k, l, bias) == expected(score, pages, length, k, l, bias));
      }
    }
  }
}

TEST_CASE("cuda select pages: bad parameters are refused with the field's name") {
  float score[4] = {};
  int32_t ints[8] = {};
  const auto refused = [&](const std::string& field, int k, int l, double bias, const float* s, int stride) {
    Params p;
    p.n_rows = 1, p.k_pages = k, p.l_pages = l, p.position_bias = bias, p.score = s, p.score_stride = stride;
    p.length = ints, p.list = ints;
    try {
      run(p, {});
    } catch (const std::exception& e) {
      return std::string(e.what()).find(field) != std::string::npos;
    }
    return false;
  };
  CHECK(refused("k_pages", 2, 3, 1e-7, score, 4));
  CHECK(refused("l_pages", 2, 0, 1e-7, score, 4));
  CHECK(refused("position_bias", 2, 1, double(nan), score, 4));
  CHECK(refused("position_bias", 2, 1, -1.0, score, 4));
  CHECK(refused("score is null", 2, 1, 1e-7, nullptr, 4));
  CHECK(refused("score_stride", 2, 1, 1e-7, score, 8193));
}

}  // namespace
}  // namespace deltacal::kernels::cuda::select_pages
