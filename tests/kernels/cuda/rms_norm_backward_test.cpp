#include "kernels/rms_norm_backward/rms_norm_backward.h"

#include <cmath>

#include "device.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rms_norm_backward/cuda.h"

namespace deltacal::kernels::cuda::rms_norm_backward {
namespace {

struct Call {
  Call(Type t, int n_rows, int row, unsigned seed)
      : type(t),
        rows(n_rows),
        n(row),
        x(normals(size_t(n_rows) * size_t(row), seed, 2)),
        weight(normals(size_t(row), seed + 1)),
        dy(rounded_normals(t, x.size(), seed + 2)),
        gradient(normals(x.size(), seed + 3)) {}
  struct Result {
    std::vector<float> gradient, out;
  };
  Result on_device(bool out_is_dy = false) {
    Array<float> d_x(x), d_weight(weight), d_gradient(gradient);
    Array<uint16_t> d_dy(to_bits(type, dy)), d_out(x.size());
    Params p;
    p.n_rows = rows, p.n = n, p.type = type, p.epsilon = epsilon, p.x = d_x.get(), p.weight = d_weight.get();
    p.dy = d_dy.get(), p.gradient = d_gradient.get(), p.out = out_is_dy ? d_dy.get() : d_out.get();
    run(p, {});
    return {d_gradient.read(), from_bits(type, (out_is_dy ? d_dy : d_out).read())};
  }
  std::vector<float> expected() const {
    std::vector<float> sum = gradient;
    kernels::rms_norm_backward::reference({rows, n, epsilon, x.data(), weight.data(), dy.data(), sum.data()});
    return sum;
  }

  Type type;
  int rows, n;
  float epsilon = 1e-6f;
  std::vector<float> x, weight, dy, gradient;
};

// Numbers by a few roundings of float, of numbers as large as those of the row; `out` by one of the type.
void require_equals_reference(Call& call, bool out_is_dy = false) {
  const Call::Result found = call.on_device(out_is_dy);
  const std::vector<float> right = call.expected();
  for (size_t r = 0; r < size_t(call.rows); ++r) {
    double largest = 0;
    for (size_t i = r * size_t(call.n); i < (r + 1) * size_t(call.n); ++i)
      largest =
          std::max({largest, std::abs(double(right[i])), std::abs(double(right[i]) - call.gradient[i])});
    for (size_t i = r * size_t(call.n); i < (r + 1) * size_t(call.n); ++i) {
      CAPTURE(i, found.gradient[i], found.out[i], right[i]);
      REQUIRE(std::abs(double(found.gradient[i]) - right[i]) <= 2e-6 * largest);
      REQUIRE(found.out[i] == rounded(call.type, found.gradient[i]));
    }
  }
}

TEST_CASE("rms norm backward: the reference equals differences of the norm") {
  const int n = 24;
  const std::vector<float> x = normals(n, 1), weight = normals(n, 2), dy = normals(n, 3);
  std::vector<float> found(n, 0.5f);
  kernels::rms_norm_backward::reference({1, n, 1e-2f, x.data(), weight.data(), dy.data(), found.data()});
  const auto loss = [&](int i, float change) {
    std::vector<float> moved = x, out(n);
    moved[size_t(i)] += change;
    kernels::rms_norm::reference({1, n, 1e-2f, moved.data(), nullptr, weight.data(), out.data()});
    double sum = 0;
    for (size_t j = 0; j < size_t(n); ++j) sum += double(dy[j]) * out[j];
    return sum;
  };
  for (int i = 0; i < n; ++i) {
    const double right = 0.5 + (loss(i, 1.0f / 128) - loss(i, -1.0f / 128)) * 64;
    CAPTURE(i, found[size_t(i)], right);
    CHECK(std::abs(found[size_t(i)] - right) < 1e-3);
  }
}

TEST_CASE("cuda rms norm backward: equals the reference at row sizes of all kernels and types") {
  NEEDS_DEVICE;
  for (const Type type : both_types) {
    for (const int n : {8, 120, 576, 896, 1024, 1032, 1536, 3584, 4096, 4104, 8192, 8200, 16384}) {
      CAPTURE(int(type), n);
      Call call(type, 3, n, 1);
      require_equals_reference(call);
    }
  }
}

TEST_CASE(
    "cuda rms norm backward: the rounded gradient may take dy's place, and rows do not touch each other") {
  NEEDS_DEVICE;
  Call call(Type::bf16, 64, 896, 5);
  for (size_t i = 0; i < 896; ++i) call.x[7 * 896 + i] = std::numeric_limits<float>::quiet_NaN();
  const Call::Result found = call.on_device(true);
  for (size_t i = 0; i < found.out.size(); ++i) REQUIRE(std::isnan(found.out[i]) == (i / 896 == 7));
  for (size_t i = 0; i < 896; ++i) call.x[7 * 896 + i] = float(i);
  require_equals_reference(call, true);
}

TEST_CASE("cuda rms norm backward: rows of zeros, of tiny and of large numbers") {
  NEEDS_DEVICE;
  Call call(Type::bf16, 3, 576, 6);
  call.epsilon = 1e-5f;
  for (size_t i = 0; i < 576; ++i) call.x[i] = 0, call.x[576 + i] *= 1e-6f, call.x[2 * 576 + i] *= 1e4f;
  require_equals_reference(call);
}

TEST_CASE("cuda rms norm backward: bad parameters are refused with the field's name") {
  void* array = reinterpret_cast<void*>(256);
  Params p;
  p.n_rows = 1, p.n = 64, p.epsilon = 1e-6f, p.x = static_cast<float*>(array), p.dy = array, p.out = array,
  p.weight = static_cast<float*>(array), p.gradient = static_cast<float*>(array);
  const auto refused = [&](const std::string& field, auto change) {
    return refused_with("rms_norm_backward: " + field, p, change);
  };
  CHECK(refused("n is 60", [](Params& x) { x.n = 60; }));
  CHECK(refused("n is 16392", [](Params& x) { x.n = 16392; }));
  CHECK(refused("n_rows", [](Params& x) { x.n_rows = -1; }));
  CHECK(refused("epsilon", [](Params& x) { x.epsilon = -1; }));
  CHECK(refused("x is null", [](Params& x) { x.x = nullptr; }));
  CHECK(refused("dy", [](Params& x) { x.dy = reinterpret_cast<void*>(264); }));
  CHECK(refused("weight", [](Params& x) { x.weight = nullptr; }));
  CHECK(refused("gradient", [](Params& x) { x.gradient = nullptr; }));
  CHECK(refused("out", [](Params& x) { x.out = nullptr; }));
}

}  // namespace
}  // namespace deltacal::kernels::cuda::rms_norm_backward
