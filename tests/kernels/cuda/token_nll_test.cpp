#include "kernels/token_nll/token_nll.h"

#include <cmath>
#include <limits>

#include "device.h"
#include "kernels/token_nll/cuda.h"

namespace deltacal::kernels::cuda::token_nll {
namespace {

std::vector<float> on_device(const std::vector<float>& logits, int n, const std::vector<int32_t>& target) {
  Array<float> x(logits), nll(target.size());
  Array<int32_t> t(target);
  Params p;
  p.n_rows = int(target.size()), p.n = n, p.logits = x.get(), p.target = t.get(), p.nll = nll.get();
  run(p, {});
  return nll.read();
}

std::vector<float> expected(const std::vector<float>& logits, int n, const std::vector<int32_t>& target) {
  std::vector<float> nll(target.size());
  kernels::token_nll::reference({int(target.size()), n, logits.data(), target.data(), nll.data()});
  return nll;
}

TEST_CASE("cuda token_nll: equals the reference, rows of any length, logits near and far from 0") {
  NEEDS_DEVICE;
  for (const auto& [rows, n] : {std::pair(1, 1), {3, 7}, {5, 512}, {2, 4096}, {4, 2051}, {1, 33000}})
    for (const float level : {0.0f, 300.0f, -300.0f}) {
      CAPTURE(rows, n, level);
      std::vector<float> logits = normals(size_t(rows) * size_t(n), 1, 5.0f);
      for (float& x : logits) x += level;
      std::vector<int32_t> target;
      for (int r = 0; r < rows; ++r) target.push_back(r * 977 % n);
      const std::vector<float> found = on_device(logits, n, target), all = expected(logits, n, target);
      for (int r = 0; r < rows; ++r) {
        const double right = all[size_t(r)];
        CAPTURE(r, found[size_t(r)], right);
        // The logits times log2(e) are rounded once, at their own size.
        REQUIRE(std::abs(found[size_t(r)] - right) <= 4e-6 + 3e-7 * (std::abs(double(level)) + 20));
      }
    }
}

TEST_CASE("cuda token_nll: one certain token, tokens that cannot be, and NaN") {
  NEEDS_DEVICE;
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> rows(4 * 600, -inf);
  for (int i = 0; i < 600; ++i) rows[size_t(600 + i)] = 0;
  rows[5] = 12.5f;            // the only token that can be
  rows[3 * 600 + 599] = nan;  // the last number of the last row
  rows[2 * 600] = 3, rows[2 * 600 + 599] = 3;
  const std::vector<int32_t> target{5, 0, 599, 0};
  const std::vector<float> nll = on_device(rows, 600, target), reference = expected(rows, 600, target);
  for (const std::vector<float>& found : {nll, reference}) {
    CHECK(std::abs(found[0]) < 1e-5f);
    CHECK(std::abs(found[1] - std::log(600.0)) < 1e-5);
    CHECK(std::abs(found[2] - std::log(2.0)) < 1e-5);
    CHECK(std::isnan(found[3]));
  }
}

TEST_CASE("cuda token_nll: bad parameters are refused with the field's name") {
  float* floats = reinterpret_cast<float*>(256);
  int32_t ints[4];
  Params p;
  p.n_rows = 1, p.n = 64, p.logits = floats, p.target = ints, p.nll = floats;
  const auto refused = [&](const std::string& field, auto change) {
    return refused_with("token_nll: " + field, p, change);
  };
  CHECK(refused("n_rows", [](Params& x) { x.n_rows = -1; }));
  CHECK(refused("n is 0", [](Params& x) { x.n = 0; }));
  CHECK(refused("logits", [](Params& x) { x.logits = reinterpret_cast<float*>(264); }));
  CHECK(refused("target", [](Params& x) { x.target = nullptr; }));
  CHECK(refused("nll", [](Params& x) { x.nll = nullptr; }));
}

}  // namespace
}  // namespace deltacal::kernels::cuda::token_nll
