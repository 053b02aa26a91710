#include "kernels/rms_norm/rms_norm.h"

#include <cmath>

#include "device.h"
#include "kernels/rms_norm/cuda.h"

namespace deltacal::kernels::cuda::rms_norm {
namespace {

struct Call {
  Call(Type t, int n_rows, int row, bool add, unsigned seed)
      : type(t),
        rows(n_rows),
        n(row),
        x(normals(size_t(n_rows) * size_t(row), seed, 2)),
        weight(normals(size_t(row), seed + 1)) {
    if (add) y = rounded_normals(t, x.size(), seed + 2);
  }
  struct Result {
    std::vector<float> x, out;
  };
  Result on_device(bool out_is_y = false) {
    Array<float> d_x(x), d_weight(weight);
    Array<uint16_t> d_y(to_bits(type, y)), d_out(x.size());
    Params p;
    p.n_rows = rows, p.n = n, p.type = type, p.epsilon = epsilon, p.x = d_x.get(), p.weight = d_weight.get();
    p.y = y.empty() ? nullptr : d_y.get(), p.out = out_is_y ? d_y.get() : d_out.get();
    run(p, {});
    return {d_x.read(), from_bits(type, (out_is_y ? d_y : d_out).read())};
  }
  Result expected() const {
    Result r{x, std::vector<float>(x.size())};
    kernels::rms_norm::reference(
        {rows, n, epsilon, r.x.data(), y.empty() ? nullptr : y.data(), weight.data(), r.out.data()});
    return r;
  }

  Type type;
  int rows, n;
  float epsilon = 1e-6f;
  std::vector<float> x, y, weight;
};

// The sum of two floats rounds alike on both; results by one rounding to the type, and a few of float.
void require_equals_reference(Call& call, bool out_is_y = false) {
  const Call::Result found = call.on_device(out_is_y), right = call.expected();
  REQUIRE(found.x == right.x);
  for (size_t i = 0; i < right.out.size(); ++i) {
    CAPTURE(i, found.out[i], right.out[i]);
    REQUIRE(std::abs(double(found.out[i]) - right.out[i]) <=
            (roundoff(call.type) + 1e-5) * std::abs(right.out[i]) + 6e-8);  // f16 below 2^-14: its spacing
  }
}

TEST_CASE(
    "cuda rms norm: equals the reference at row sizes of all kernels, types, with and without an addend") {
  NEEDS_DEVICE;
  for (const Type type : both_types) {
    for (const int n : {8, 120, 576, 896, 1024, 1032, 1536, 3584, 4096, 4104, 8192, 8200, 16384}) {
      for (const bool add : {false, true}) {
        CAPTURE(int(type), n, add);
        Call call(type, 3, n, add, 1);
        require_equals_reference(call);
      }
    }
  }
}

TEST_CASE("cuda rms norm: the result may take the addend's place, and rows do not touch each other") {
  NEEDS_DEVICE;
  Call call(Type::bf16, 64, 896, true, 5);
  for (size_t i = 0; i < 896; ++i) call.x[7 * 896 + i] = std::numeric_limits<float>::quiet_NaN();
  const Call::Result found = call.on_device(true);
  for (size_t i = 0; i < found.out.size(); ++i) REQUIRE(std::isnan(found.out[i]) == (i / 896 == 7));
  for (size_t i = 0; i < 896; ++i) call.x[7 * 896 + i] = float(i);
  require_equals_reference(call, true);
}

TEST_CASE("cuda rms norm: rows of zeros, of tiny and of large numbers") {
  NEEDS_DEVICE;
  Call call(Type::bf16, 4, 576, false, 6);
  call.epsilon = 1e-5f;
  for (size_t i = 0; i < 576; ++i) {
    call.x[i] = 0, call.x[576 + i] *= 1e-6f, call.x[2 * 576 + i] *= 1e4f;
    if (i != 33) call.x[3 * 576 + i] = 0;
  }
  require_equals_reference(call);
}

TEST_CASE("cuda rms norm: bad parameters are refused with the field's name") {
  void* array = reinterpret_cast<void*>(256);
  Params p;
  p.n_rows = 1, p.n = 64, p.epsilon = 1e-6f, p.x = static_cast<float*>(array), p.y = array, p.out = array,
  p.weight = static_cast<float*>(array);
  const auto refused = [&](const std::string& field, auto change) {
    return refused_with("rms_norm: " + field, p, change);
  };
  CHECK(refused("n is 60", [](Params& x) { x.n = 60; }));
  CHECK(refused("n is 16392", [](Params& x) { x.n = 16392; }));
  CHECK(refused("n_rows", [](Params& x) { x.n_rows = -1; }));
  CHECK(refused("epsilon", [](Params& x) { x.epsilon = -1; }));
  CHECK(refused("x is null", [](Params& x) { x.x = nullptr; }));
  CHECK(refused("y", [](Params& x) { x.y = reinterpret_cast<void*>(264); }));
  CHECK(refused("weight", [](Params& x) { x.weight = nullptr; }));
  CHECK(refused("out", [](Params& x) { x.out = nullptr; }));
}

}  // namespace
}  // namespace deltacal::kernels::cuda::rms_norm
