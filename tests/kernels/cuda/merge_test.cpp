#include "kernels/merge_attention/merge_attention.h"

#include <cmath>
#include <limits>

#include "device.h"
#include "kernels/merge_attention/cuda.h"

namespace deltacal::kernels::cuda::merge_attention {
namespace {

struct Part {
  std::vector<float> out, lse;  // [n_rows, n_heads, head_dim], [n_heads, n_rows]
};

// Attention of random logits to `n_keys` random values, in double; logits about `level`.
Part attention(int rows, int heads, int dim, const std::vector<float>& logits,
               const std::vector<float>& values, int first, int end, int n_keys) {
  Part part{std::vector<float>(size_t(rows * heads * dim)), std::vector<float>(size_t(heads * rows))};
  for (int r = 0; r < rows; ++r)
    for (int h = 0; h < heads; ++h) {
      const float* x = &logits[size_t(r * heads + h) * size_t(n_keys)];
      double sum = 0;
      for (int i = first; i < end; ++i) sum += std::exp(double(x[i]));
      part.lse[size_t(h * rows + r)] = float(std::log(sum));
      for (int d = 0; d < dim; ++d) {
        double o = 0;
        for (int i = first; i < end; ++i) o += std::exp(double(x[i])) / sum * values[size_t(i * dim + d)];
        part.out[size_t((r * heads + h) * dim + d)] = float(o);
      }
    }
  return part;
}

TEST_CASE("cuda merge_attention: two sets of keys equal attention to both, for both types and in place") {
  NEEDS_DEVICE;
  constexpr int n_keys = 40;
  for (const Type type : both_types)
    for (const auto& [rows, heads, dim, split] :
         {std::tuple(1, 1, 64, 20), {7, 3, 96, 1}, {5, 28, 128, 39}, {2, 2, 256, 11}}) {
      CAPTURE(int(type), rows, heads, dim, split);
      const auto logits = normals(size_t(rows * heads * n_keys), 1, 4.0f),
                 values = normals(size_t(n_keys * dim), 2);
      const Part a = attention(rows, heads, dim, logits, values, 0, split, n_keys),
                 b = attention(rows, heads, dim, logits, values, split, n_keys, n_keys),
                 both = attention(rows, heads, dim, logits, values, 0, n_keys, n_keys);
      Array<uint16_t> in_a(to_bits(type, a.out)), in_b(to_bits(type, b.out));
      Array<float> lse_a(a.lse), lse_b(b.lse), lse(a.lse.size());
      Params p;
      p.n_rows = rows, p.n_heads = heads, p.head_dim = dim, p.type = type;
      p.a = in_a.get(), p.b = in_b.get(), p.lse_a = lse_a.get(), p.lse_b = lse_b.get();
      p.out = in_a.get(), p.lse = lse.get();
      run(p, {});
      const std::vector<float> found = from_bits(type, in_a.read()), found_lse = lse.read();
      for (size_t i = 0; i < found.size(); ++i) {
        CAPTURE(i, found[i], both.out[i]);
        const double scale = std::abs(a.out[i]) + std::abs(b.out[i]) + std::abs(both.out[i]);
        REQUIRE(std::abs(double(found[i]) - both.out[i]) <= roundoff(type) * scale + 1e-6);
      }
      for (int r = 0; r < rows; ++r)
        for (int h = 0; h < heads; ++h)
          REQUIRE(std::abs(double(found_lse[size_t(r * heads + h)]) - both.lse[size_t(h * rows + r)]) < 4e-6);
    }
}

TEST_CASE("merge_attention: the reference of two sets of keys is attention to both") {
  constexpr int rows = 7, heads = 3, dim = 16, n_keys = 40;
  const auto logits = normals(size_t(rows * heads * n_keys), 1, 4.0f),
             values = normals(size_t(n_keys * dim), 2);
  const Part both = attention(rows, heads, dim, logits, values, 0, n_keys, n_keys);
  for (const int split : {1, 11, 39}) {
    Part a = attention(rows, heads, dim, logits, values, 0, split, n_keys);
    const Part b = attention(rows, heads, dim, logits, values, split, n_keys, n_keys);
    std::vector<float> lse(a.lse.size());
    kernels::merge_attention::reference(
        {rows, heads, dim, a.out.data(), b.out.data(), a.lse.data(), b.lse.data(), a.out.data(), lse.data()});
    for (size_t i = 0; i < a.out.size(); ++i) REQUIRE(std::abs(a.out[i] - both.out[i]) < 4e-6f);
    for (int r = 0; r < rows; ++r)
      for (int h = 0; h < heads; ++h)
        REQUIRE(std::abs(lse[size_t(r * heads + h)] - both.lse[size_t(h * rows + r)]) < 4e-6f);
  }
}

TEST_CASE("cuda merge_attention: far apart, the larger set is all; NaN stays") {
  NEEDS_DEVICE;
  Array<uint16_t> a(to_bits(Type::f16, std::vector<float>(16, 1.0f))),
      b(to_bits(Type::f16, std::vector<float>(16, 3.0f))), out(16);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Array<float> lse_a(std::vector<float>{-1000, nan}), lse_b(std::vector<float>{1000, 0}), lse(2);
  Params p;
  p.n_rows = 2, p.n_heads = 1, p.head_dim = 8, p.type = Type::f16;
  p.a = a.get(), p.b = b.get(), p.lse_a = lse_a.get(), p.lse_b = lse_b.get(), p.out = out.get();
  p.lse = lse.get();
  run(p, {});
  const std::vector<float> found = from_bits(Type::f16, out.read());
  for (int d = 0; d < 8; ++d) CHECK(found[size_t(d)] == 3.0f);
  for (int d = 8; d < 16; ++d) CHECK(std::isnan(found[size_t(d)]));
  CHECK(lse.read()[0] == 1000.0f);
  CHECK(std::isnan(lse.read()[1]));
}

TEST_CASE("cuda merge_attention: bad parameters are refused with the field's name") {
  void* array = reinterpret_cast<void*>(256);
  float* floats = reinterpret_cast<float*>(256);
  Params p;
  p.n_rows = 1, p.n_heads = 2, p.head_dim = 64, p.a = p.b = p.out = array, p.lse_a = p.lse_b = p.lse = floats;
  const auto refused = [&](const std::string& field, auto change) {
    return refused_with("merge_attention: " + field, p, change);
  };
  CHECK(refused("n_rows is -1", [](Params& x) { x.n_rows = -1; }));
  CHECK(refused("n_heads is 0", [](Params& x) { x.n_heads = 0; }));
  CHECK(refused("head_dim is 60", [](Params& x) { x.head_dim = 60; }));
  CHECK(refused("a ", [](Params& x) { x.a = nullptr; }));
  CHECK(refused("b ", [](Params& x) { x.b = reinterpret_cast<void*>(264); }));
  CHECK(refused("out ", [](Params& x) { x.out = nullptr; }));
  CHECK(refused("lse_b ", [](Params& x) { x.lse_b = nullptr; }));
  CHECK(refused("lse ", [](Params& x) { x.lse = nullptr; }));
}

}  // namespace
}  // namespace deltacal::kernels::cuda::merge_attention
