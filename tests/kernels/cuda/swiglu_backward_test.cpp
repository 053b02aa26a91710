#include "kernels/swiglu_backward/swiglu_backward.h"

#include <cmath>

#include "device.h"
#include "kernels/swiglu/swiglu.h"
#include "kernels/swiglu_backward/cuda.h"

namespace deltacal::kernels::cuda::swiglu_backward {
namespace {

std::vector<float> on_device(Type type, int rows, int n, const std::vector<float>& gate_up,
                             const std::vector<float>& dy) {
  Array<uint16_t> d_gate_up(to_bits(type, gate_up)), d_dy(to_bits(type, dy)), out(gate_up.size());
  Params p;
  p.n_rows = rows, p.n = n, p.type = type, p.gate_up = d_gate_up.get(), p.dy = d_dy.get(),
  p.d_gate_up = out.get();
  run(p, {});
  return from_bits(type, out.read());
}

std::vector<float> expected(int rows, int n, const std::vector<float>& gate_up,
                            const std::vector<float>& dy) {
  std::vector<float> out(gate_up.size());
  kernels::swiglu_backward::reference({rows, n, gate_up.data(), dy.data(), out.data()});
  return out;
}

TEST_CASE("swiglu backward: the reference equals differences of the gate") {
  const int n = 16;
  const std::vector<float> gate_up = normals(2 * n, 1, 2), dy = normals(n, 2),
                           found = expected(1, n, gate_up, dy);
  const auto loss = [&](size_t i, float change) {
    std::vector<float> moved = gate_up, out(n);
    moved[i] += change;
    kernels::swiglu::reference({1, n, moved.data(), out.data()});
    double sum = 0;
    for (size_t j = 0; j < size_t(n); ++j) sum += double(dy[j]) * out[j];
    return sum;
  };
  for (size_t i = 0; i < 2 * n; ++i) {
    const double right = (loss(i, 1.0f / 128) - loss(i, -1.0f / 128)) * 64;
    CAPTURE(i, found[i], right);
    CHECK(std::abs(found[i] - right) < 1e-3);
  }
}

TEST_CASE(
    "cuda swiglu backward: equals the reference for one row and many, sizes that fill no block, and types") {
  NEEDS_DEVICE;
  for (const Type type : both_types) {
    for (const auto& [rows, n] : {std::pair(1, 8), {3, 1536}, {1, 18944}, {33, 1024}, {5, 2056}, {300, 16}}) {
      CAPTURE(int(type), rows, n);
      const size_t size = size_t(rows) * size_t(n);
      const std::vector<float> in = rounded_normals(type, 2 * size, 1, 4),
                               dy = rounded_normals(type, size, 2), found = on_device(type, rows, n, in, dy),
                               right = expected(rows, n, in, dy);
      for (size_t i = 0; i < right.size(); ++i) {
        CAPTURE(i, found[i], right[i]);
        // 1 + gate (1 - s) has a zero near gate = -1.28.
        REQUIRE(std::abs(double(found[i]) - right[i]) <= roundoff(type) * std::abs(right[i]) + 3e-5);
      }
    }
  }
}

TEST_CASE("cuda swiglu backward: gates far from 0 close and open, and NaN stays") {
  NEEDS_DEVICE;
  std::vector<float> in(16, 2.0f);
  const float gates[8] = {-60000, -200, -90, 0, 90, 200, 20000, std::numeric_limits<float>::quiet_NaN()};
  std::copy(gates, gates + 8, in.begin());
  for (const Type type : both_types) {
    const std::vector<float> out = on_device(type, 1, 8, in, std::vector<float>(8, 1.0f));
    for (const size_t closed : {0, 1, 2}) CHECK(std::abs(out[closed]) + std::abs(out[8 + closed]) < 1e-30f);
    CHECK((out[3] == 1 && out[8 + 3] == 0));
    for (const size_t open : {4, 5, 6})
      CHECK((out[open] == 2 && out[8 + open] == rounded(type, gates[open])));
    CHECK((std::isnan(out[7]) && std::isnan(out[15])));
  }
}

TEST_CASE("cuda swiglu backward: bad parameters are refused with the field's name") {
  void* array = reinterpret_cast<void*>(256);
  Params p;
  p.n_rows = 1, p.n = 64, p.gate_up = array, p.dy = array, p.d_gate_up = array;
  const auto refused = [&](const std::string& field, auto change) {
    return refused_with("swiglu_backward: " + field, p, change);
  };
  CHECK(refused("n is 60", [](Params& x) { x.n = 60; }));
  CHECK(refused("n is 0", [](Params& x) { x.n = 0; }));
  CHECK(refused("n_rows", [](Params& x) { x.n_rows = -1; }));
  CHECK(refused("gate_up", [](Params& x) { x.gate_up = nullptr; }));
  CHECK(refused("dy", [](Params& x) { x.dy = reinterpret_cast<void*>(264); }));
  CHECK(refused("d_gate_up", [](Params& x) { x.d_gate_up = nullptr; }));
}

}  // namespace
}  // namespace deltacal::kernels::cuda::swiglu_backward
