#include "kernels/rotary/rotary.h"

#include <cmath>

#include "device.h"
#include "kernels/rotary/cuda.h"

namespace deltacal::kernels::cuda::rotary {
namespace {

struct Call {
  Call(Type t, int n_rows, int heads, int dim, int rotary, RotaryPairs order, unsigned seed)
      : type(t),
        rows(n_rows),
        n_heads(heads),
        head_dim(dim),
        rotary_dim(rotary),
        pairs(order),
        x(rounded_normals(t, size_t(n_rows * heads * dim), seed)) {
    for (int j = 0; j < rotary / 2; ++j) frequency.push_back(float(std::pow(1e5, -2.0 * j / rotary)));
  }
  Params params() const {
    Params p;
    p.n_rows = rows, p.n_heads = n_heads, p.head_dim = head_dim, p.type = type, p.backward = backward;
    p.pairs = pairs, p.rotary_dim = rotary_dim, p.amplitude = 1.25f, p.first_position = first;
    return p;
  }
  std::vector<float> on_device(bool in_place = false) const {
    Array<uint16_t> in(to_bits(type, x)), out(x.size());
    Array<float> d_frequency(frequency), d_bias(bias);
    Params p = params();
    p.inverse_frequency = d_frequency.get(), p.bias = bias.empty() ? nullptr : d_bias.get();
    p.x = in.get(), p.out = in_place ? in.get() : out.get();
    run(p, {});
    return from_bits(type, (in_place ? in : out).read());
  }
  std::vector<float> expected() const {
    std::vector<float> out(x.size());
    kernels::rotary::Params p;
    p.n_rows = rows, p.n_heads = n_heads, p.head_dim = head_dim, p.backward = backward;
    p.pairs = pairs == RotaryPairs::neox ? kernels::rotary::RotaryPairs::neox
                                         : kernels::rotary::RotaryPairs::interleaved;
    p.rotary_dim = rotary_dim, p.inverse_frequency = frequency.data(), p.amplitude = 1.25f;
    p.first_position = first, p.x = x.data(), p.bias = bias.empty() ? nullptr : bias.data();
    p.out = out.data();
    kernels::rotary::reference(p);
    return out;
  }

  Type type;
  int rows, n_heads, head_dim, rotary_dim, first = 0;
  bool backward = false;
  RotaryPairs pairs;
  std::vector<float> x, frequency, bias;
};

void require_near(Type type, const std::vector<float>& found, const std::vector<float>& right) {
  REQUIRE(found.size() == right.size());
  for (size_t i = 0; i < found.size(); ++i) {
    CAPTURE(i, found[i], right[i]);
    REQUIRE(std::abs(double(found[i]) - right[i]) <= 1.01 * roundoff(type) * std::abs(right[i]) + 3e-6);
  }
}

TEST_CASE("rotary: backward is the transpose of forward") {
  for (const RotaryPairs pairs : {RotaryPairs::neox, RotaryPairs::interleaved}) {
    Call x(Type::bf16, 5, 3, 64, 32, pairs, 1), y(Type::bf16, 5, 3, 64, 32, pairs, 2);
    x.first = y.first = 700, y.backward = true;
    const std::vector<float> forward = x.expected(), back = y.expected();
    for (size_t row = 0; row < 15; ++row) {
      double of_outputs = 0, of_inputs = 0;
      for (size_t i = row * 64; i < (row + 1) * 64; ++i) {
        of_outputs += double(forward[i]) * y.x[i];
        of_inputs += double(x.x[i]) * back[i];
      }
      CHECK(std::abs(of_outputs - of_inputs) < 1e-5);
    }
  }
}

TEST_CASE(
    "cuda rotary: equals the reference both ways, for both pair orders, head sizes, partial rotation and "
    "types") {
  NEEDS_DEVICE;
  for (const Type type : both_types)
    for (const RotaryPairs pairs : {RotaryPairs::neox, RotaryPairs::interleaved})
      for (const auto& [head_dim, rotary_dim] :
           {std::pair(64, 64), {96, 96}, {128, 128}, {128, 32}, {64, 18}, {64, 0}, {256, 64}})
        for (const bool backward : {false, true}) {
          CAPTURE(int(type), int(pairs), head_dim, rotary_dim, backward);
          Call call(type, 6, 11, head_dim, rotary_dim, pairs, 3);
          call.first = backward ? 65 : 100'000, call.backward = backward;  // far: angles are in double
          if (!backward) call.bias = normals(size_t(11 * head_dim), 4, 0.5f);
          require_near(type, call.on_device(), call.expected());
          require_near(type, call.on_device(true), call.expected());
        }
}

TEST_CASE("cuda rotary: rows with gaps, in and out, and nothing between them is written") {
  NEEDS_DEVICE;
  const int rows = 5, heads = 2, dim = 64, from = heads * dim + 6, to = heads * dim + 64;
  const Call call(Type::bf16, rows, heads, dim, 64, RotaryPairs::neox, 5);
  const std::vector<float> right = call.on_device();
  std::vector<float> wide(size_t(rows * from), 7.0f);
  for (int r = 0; r < rows; ++r)
    std::copy_n(call.x.begin() + r * heads * dim, heads * dim, wide.begin() + r * from);
  Array<uint16_t> in(to_bits(call.type, wide)), out(std::vector<uint16_t>(size_t(rows * to), 9));
  Array<float> frequency(call.frequency);
  Params p = call.params();
  p.inverse_frequency = frequency.get(), p.x = in.get(), p.out = out.get(), p.x_stride = from,
  p.out_stride = to;
  run(p, {});
  const std::vector<uint16_t> found = out.read();
  for (int r = 0; r < rows; ++r)
    for (int i = 0; i < to; ++i)
      REQUIRE(found[size_t(r * to + i)] ==
              (i < heads * dim ? to_bits(call.type, right[size_t(r * heads * dim + i)]) : 9));
}

TEST_CASE("cuda rotary: bad parameters are refused with the field's name") {
  void* array = reinterpret_cast<void*>(256);
  Params p;
  p.n_rows = 1, p.n_heads = 2, p.head_dim = 64, p.rotary_dim = 64, p.x = array, p.out = array,
  p.inverse_frequency = static_cast<float*>(array);
  const auto refused = [&](const std::string& field, auto change) {
    return refused_with("rotary: " + field, p, change);
  };
  CHECK(refused("n_rows", [](Params& x) { x.n_rows = -1; }));
  CHECK(refused("n_heads", [](Params& x) { x.n_heads = 0; }));
  CHECK(refused("head_dim", [](Params& x) { x.head_dim = 258; }));
  CHECK(refused("rotary_dim", [](Params& x) { x.rotary_dim = 66; }));
  CHECK(refused("inverse_frequency", [](Params& x) { x.inverse_frequency = nullptr; }));
  CHECK(refused("first_position", [](Params& x) { x.first_position = -1; }));
  CHECK(refused("x is null", [](Params& x) { x.x = nullptr; }));
  CHECK(refused("out", [](Params& x) { x.out = reinterpret_cast<void*>(258); }));
  CHECK(refused("x_stride", [](Params& x) { x.x_stride = 129; }));
  CHECK(refused("out_stride", [](Params& x) { x.out_stride = 129; }));
  CHECK(refused("bias", [](Params& x) { x.backward = true, x.bias = x.inverse_frequency; }));
}

}  // namespace
}  // namespace deltacal::kernels::cuda::rotary
