// The analysis ranks pages as the decoder's kernel does, though neither may include the other.
#include <catch2/catch_test_macros.hpp>
#include <limits>
#include <random>

#include "calib/page_order.h"
#include "kernels/select_pages/select_pages.h"

using namespace deltacal;

TEST_CASE("selection: calib's page order and the kernel's list are the same pages in the same order") {
  std::mt19937 random(3);
  const float special[] = {0, 1, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e-8f};
  calib::PageOrder order;
  std::vector<int32_t> expected;
  for (int round = 0; round < 300; ++round) {
    const int U = 1 + int(random() % 200);
    std::vector<float> score(U);
    // Many ties, special values, and differences of the size of the position bias.
    for (auto& s : score)
      s = random() % 8 == 0 ? special[random() % 5] : round % 2 ? float(random() % 5) : 0.5f + 1e-7f * float(random() % 4);
    const int k = 1 + int(random() % 100), l = 1 + int(random() % k);
    kernels::select_pages::Params p;
    p.n_rows = 1;
    p.k_pages = k;
    p.l_pages = l;
    p.position_bias = calib::default_position_bias;
    p.score = score.data();
    p.score_stride = U;
    const int32_t n_pages[] = {U};
    p.n_pages = n_pages;
    std::vector<int32_t> list(k);
    p.list = list.data();
    kernels::select_pages::cpu(p);
    list.resize(std::min(k, U));
    order.rank(score, k);
    order.list(k, l, expected);
    CAPTURE(round, U, k, l);
    CHECK(list == expected);
  }
}
