#include "kernels/swiglu/swiglu.h"

#include <cmath>

#include "device.h"
#include "kernels/swiglu/cuda.h"

namespace deltacal::kernels::cuda::swiglu {
namespace {

std::vector<float> on_device(Type type, int rows, int n, const std::vector<float>& gate_up) {
  Array<uint16_t> in(to_bits(type, gate_up)), out(size_t(rows) * size_t(n));
  Params p;
  p.n_rows = rows, p.n = n, p.type = type, p.gate_up = in.get(), p.out = out.get();
  run(p, {});
  return from_bits(type, out.read());
}

std::vector<float> expected(int rows, int n, const std::vector<float>& gate_up) {
  std::vector<float> out(size_t(rows) * size_t(n));
  kernels::swiglu::reference({rows, n, gate_up.data(), out.data()});
  return out;
}

TEST_CASE(
    "cuda swiglu: equals the reference for one row and many, sizes that fill no block, and both types") {
  NEEDS_DEVICE;
  for (const Type type : both_types) {
    for (const auto& [rows, n] : {std::pair(1, 8), {3, 1536}, {1, 18944}, {33, 1024}, {5, 1032}, {300, 16}}) {
      CAPTURE(int(type), rows, n);
      const std::vector<float> in = rounded_normals(type, 2 * size_t(rows) * size_t(n), 1, 4),
                               found = on_device(type, rows, n, in), right = expected(rows, n, in);
      for (size_t i = 0; i < right.size(); ++i) {
        CAPTURE(i, found[i], right[i]);
        REQUIRE(std::abs(double(found[i]) - right[i]) <=
                (roundoff(type) + 1e-5) * std::abs(right[i]) + 6e-8);  // f16 below 2^-14: its spacing
      }
    }
  }
}

TEST_CASE("cuda swiglu: gates far from 0 close and open, and NaN stays") {
  NEEDS_DEVICE;
  std::vector<float> in(16, 2.0f);
  const float gates[8] = {-60000, -200, -88, 0, 90, 200, 20000, std::numeric_limits<float>::quiet_NaN()};
  std::copy(gates, gates + 8, in.begin());
  for (const Type type : both_types) {
    const std::vector<float> out = on_device(type, 1, 8, in);
    for (const size_t closed : {0, 1, 2, 3}) CHECK(std::abs(out[closed]) < 1e-30f);
    for (const size_t open : {4, 5, 6}) CHECK(out[open] == 2 * rounded(type, gates[open]));
    CHECK(std::isnan(out[7]));
  }
}

TEST_CASE("cuda swiglu: bad parameters are refused with the field's name") {
  void* array = reinterpret_cast<void*>(256);
  Params p;
  p.n_rows = 1, p.n = 64, p.gate_up = array, p.out = array;
  const auto refused = [&](const std::string& field, auto change) {
    return refused_with("swiglu: " + field, p, change);
  };
  CHECK(refused("n is 60", [](Params& x) { x.n = 60; }));
  CHECK(refused("n is 0", [](Params& x) { x.n = 0; }));
  CHECK(refused("n_rows", [](Params& x) { x.n_rows = -1; }));
  CHECK(refused("gate_up", [](Params& x) { x.gate_up = nullptr; }));
  CHECK(refused("out", [](Params& x) { x.out = reinterpret_cast<void*>(264); }));
}

}  // namespace
}  // namespace deltacal::kernels::cuda::swiglu
