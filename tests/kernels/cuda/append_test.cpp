#include "kernels/append_kv/append_kv.h"

#include <cmath>

#include "device.h"
#include "kernels/append_kv/cuda.h"

namespace deltacal::kernels::cuda::append_kv {
namespace {

namespace host = kernels::append_kv;

struct Call {
  Call(DeviceCache& c, int heads, std::vector<int32_t> sequences, std::vector<int32_t> positions, int rotary,
       RotaryPairs order, unsigned seed)
      : cache(c),
        n_heads(heads),
        rotary_dim(rotary),
        pairs(order),
        sequence(std::move(sequences)),
        position(std::move(positions)) {
    const size_t rows = position.size(), dim = size_t(c.host().head_dim), kv = size_t(c.host().n_kv_heads);
    q = rounded_normals(c.type(), rows * size_t(heads) * dim, seed);
    k = rounded_normals(c.type(), rows * kv * dim, seed + 1);
    v = rounded_normals(c.type(), rows * kv * dim, seed + 2);
    for (int j = 0; j < rotary / 2; ++j) frequency.push_back(float(std::pow(1e5, -2.0 * j / rotary)));
  }
  // Numbers of a bias for every call from now on.
  void add_bias(unsigned seed) {
    bias = normals((q.size() + k.size() + v.size()) / position.size(), seed, 0.5f);
  }
  // The queries after the call; the cache on the device is written.
  std::vector<float> on_device(bool in_place = false) {
    Array<uint16_t> q_in(to_bits(cache.type(), q)), k_in(to_bits(cache.type(), k)),
        v_in(to_bits(cache.type(), v)), q_out(q.size());
    Array<float> f(frequency), b(bias);
    Array<int32_t> s(sequence), p(position);
    Params call;
    call.n_rows = int(position.size()), call.n_heads = n_heads, call.pairs = pairs,
    call.rotary_dim = rotary_dim;
    call.inverse_frequency = f.get(), call.amplitude = amplitude, call.sequence = s.get(),
    call.position = p.get();
    call.q = q_in.get(), call.k = k_in.get(), call.v = v_in.get(),
    call.q_out = in_place ? q_in.get() : q_out.get();
    call.bias = bias.empty() ? nullptr : b.get();
    call.kv = cache.kv();
    run(call, {});
    return from_bits(cache.type(), (in_place ? q_in : q_out).read());
  }
  // x[rows, n] with its part of the bias, which begins at `first`.
  std::vector<float> biased(std::vector<float> x, size_t first) const {
    const size_t n = x.size() / position.size();
    for (size_t i = 0; i < x.size() && !bias.empty(); ++i) x[i] += bias[first + i % n];
    return x;
  }
  // The same by the reference; the cache on the host is written. Idle rows are left out.
  std::vector<float> expected() {
    const size_t rows = position.size(), q_row = q.size() / rows, k_row = k.size() / rows;
    std::vector<float> turned = biased(q, 0);
    const std::vector<float> keys = biased(k, q_row), values = biased(v, q_row + k_row);
    for (size_t r = 0; r < rows; ++r) {
      if (position[r] < 0) continue;
      host::Params call;
      call.n_rows = 1, call.n_heads = n_heads, call.rotary_dim = rotary_dim, call.amplitude = amplitude;
      call.pairs = pairs == RotaryPairs::neox ? host::RotaryPairs::neox : host::RotaryPairs::interleaved;
      call.inverse_frequency = frequency.data(), call.sequence = &sequence[r], call.position = &position[r];
      call.q = turned.data() + r * q_row, call.k = keys.data() + r * k_row,
      call.v = values.data() + r * k_row;
      call.kv = cache.host();
      host::reference(call);
    }
    return turned;
  }
  DeviceCache& cache;
  int n_heads, rotary_dim;
  RotaryPairs pairs;
  float amplitude = 1;
  std::vector<int32_t> sequence, position;
  std::vector<float> q, k, v, frequency, bias;
};

// Both are rounded, so they differ by one place of the type at most; NaN, where nothing was written, equals
// NaN.
void require_near(Type type, const std::vector<float>& found, const std::vector<float>& expected) {
  REQUIRE(found.size() == expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    if (std::isnan(found[i]) && std::isnan(expected[i])) continue;
    CAPTURE(i, found[i], expected[i]);
    REQUIRE(std::abs(double(found[i]) - expected[i]) <= 2.02 * roundoff(type) * std::abs(expected[i]) + 3e-6);
  }
}

void require_equals_reference(Call& call, bool in_place = false) {
  const Type type = call.cache.type();
  const std::vector<float> found = call.on_device(in_place), expected = call.expected();
  const kernels::PagedKv& h = call.cache.host();
  for (size_t r = 0; r < call.position.size(); ++r) {
    const auto row = [&](const std::vector<float>& x) {
      const long n = long(x.size() / call.position.size());
      return std::vector<float>(x.begin() + long(r) * n, x.begin() + long(r + 1) * n);
    };
    if (call.position[r] >= 0) require_near(type, row(found), row(expected));
  }
  require_near(type, from_bits(type, call.cache.keys()), from_bits(type, call.cache.to_device(h.keys, true)));
  require_near(type, from_bits(type, call.cache.values()),
               from_bits(type, call.cache.to_device(h.values, false)));
}

TEST_CASE("cuda append: equals the reference for both pair orders, partial rotation, head sizes and types") {
  NEEDS_DEVICE;
  for (const Type type : both_types) {
    for (const RotaryPairs pairs : {RotaryPairs::neox, RotaryPairs::interleaved}) {
      for (const auto& [head_dim, rotary_dim] :
           {std::pair(64, 64), {96, 96}, {128, 128}, {128, 32}, {64, 18}, {64, 0}, {256, 64}}) {
        CAPTURE(int(type), int(pairs), head_dim, rotary_dim);
        DeviceCache cache(type, 2, head_dim, {70, 40}, 1);
        Call call(cache, 6, {0, 0, 1, 0, 1}, {64, 65, 3, 15, 39}, rotary_dim, pairs, 2);
        call.amplitude = 1.25f;
        require_equals_reference(call);
      }
    }
  }
}

TEST_CASE("cuda append: a bias is added before the rotation, for both pair orders, head sizes and types") {
  NEEDS_DEVICE;
  for (const Type type : both_types) {
    for (const RotaryPairs pairs : {RotaryPairs::neox, RotaryPairs::interleaved}) {
      for (const auto& [head_dim, rotary_dim] : {std::pair(64, 64), {128, 128}, {96, 18}, {256, 0}}) {
        CAPTURE(int(type), int(pairs), head_dim, rotary_dim);
        DeviceCache cache(type, 2, head_dim, {70, 40}, 1);
        Call call(cache, 6, {0, 0, 1, 0, 1}, {64, 65, 3, 15, 39}, rotary_dim, pairs, 2);
        call.amplitude = 1.25f;
        call.add_bias(9);
        require_equals_reference(call);
      }
    }
  }
}

TEST_CASE("cuda append: rows of a fused projection, and queries with gaps between the rows") {
  NEEDS_DEVICE;
  const int heads = 4, kv = 2, dim = 64, rows = 5, fused = (heads + 2 * kv) * dim, gap = 6;
  DeviceCache cache(Type::f16, kv, dim, {90}, 11);
  Call call(cache, heads, std::vector<int32_t>(rows, 0), {80, 81, 82, 83, 84}, 32, RotaryPairs::neox, 12);
  call.add_bias(13);
  const std::vector<float> q = call.on_device();
  const std::vector<uint16_t> keys = cache.keys(), values = cache.values();
  cache.upload();

  std::vector<float> together;
  for (int r = 0; r < rows; ++r) {
    const auto add = [&](const std::vector<float>& x, int n) {
      together.insert(together.end(), x.begin() + r * n, x.begin() + (r + 1) * n);
    };
    add(call.q, heads * dim), add(call.k, kv * dim), add(call.v, kv * dim);
  }
  Array<uint16_t> in(to_bits(Type::f16, together)), q_out(size_t(rows * (heads * dim + gap)));
  Array<float> f(call.frequency), bias(call.bias);
  Array<int32_t> s(call.sequence), at(call.position);
  Params p;
  p.n_rows = rows, p.n_heads = heads, p.rotary_dim = 32, p.inverse_frequency = f.get(), p.sequence = s.get();
  p.position = at.get(), p.bias = bias.get(), p.kv = cache.kv();
  p.q = in.get(), p.k = in.get() + heads * dim, p.v = in.get() + (heads + kv) * dim;
  p.q_stride = p.k_stride = p.v_stride = fused;
  p.q_out = q_out.get(), p.q_out_stride = heads * dim + gap;
  run(p, {});
  CHECK(cache.keys() == keys);
  CHECK(cache.values() == values);
  const std::vector<uint16_t> found = q_out.read(), bits = to_bits(Type::f16, q);
  const int n = heads * dim;
  for (int r = 0; r < rows; ++r)
    for (int i = 0; i < n + gap; ++i) {
      CAPTURE(r, i);
      REQUIRE(found[size_t(r * (n + gap) + i)] == (i < n ? bits[size_t(r * n + i)] : 0xffff));
    }
}

TEST_CASE("cuda append: accurate at far positions") {
  NEEDS_DEVICE;
  // All pages at one place: only the queries matter.
  const int position = 131071;
  Array<int32_t> table(std::vector<int32_t>(8192, 0)), row(std::vector<int32_t>{0}),
      at(std::vector<int32_t>{position});
  DeviceCache cache(Type::f16, 1, 64, {16}, 3);
  Call call(cache, 1, {0}, {0}, 64, RotaryPairs::interleaved, 4);
  Array<uint16_t> q(to_bits(Type::f16, call.q)), kv(64);
  Array<float> f(call.frequency);
  Params p;
  p.n_rows = p.n_heads = 1, p.pairs = RotaryPairs::interleaved, p.rotary_dim = 64,
  p.inverse_frequency = f.get();
  p.sequence = row.get(), p.position = at.get(), p.q = p.q_out = q.get(), p.k = p.v = kv.get(),
  p.q_out = q.get();
  p.kv = cache.kv(), p.kv.page_table = table.get(), p.kv.max_pages = 8192;
  run(p, {});
  const std::vector<float> found = from_bits(Type::f16, q.read());
  for (int j = 0; j < 32; ++j) {
    const double angle = double(position) * call.frequency[size_t(j)], x = call.q[size_t(2 * j)],
                 y = call.q[size_t(2 * j + 1)];
    CAPTURE(j);
    CHECK(std::abs(found[size_t(2 * j)] - (x * std::cos(angle) - y * std::sin(angle))) < 1.5e-3);
    CHECK(std::abs(found[size_t(2 * j + 1)] - (y * std::cos(angle) + x * std::sin(angle))) < 1.5e-3);
  }
}

TEST_CASE("cuda append: in place, many rows, and idle rows write nothing") {
  NEEDS_DEVICE;
  DeviceCache cache(Type::bf16, 3, 128, {300, 300}, 5);
  std::vector<int32_t> sequence, position;
  for (int i = 0; i < 100; ++i) sequence.push_back(i % 2), position.push_back(i % 7 == 3 ? -1 : 57 + i);
  Call call(cache, 21, sequence, position, 128, RotaryPairs::neox, 6);
  require_equals_reference(call, true);
}

TEST_CASE("cuda append: bad parameters are refused with the field's name") {
  Params p;
  p.n_rows = 1, p.n_heads = 4;
  float some[16];
  int32_t ints[4];
  p.kv = {Type::bf16, 2, 64, 4, ints, ints, ints, 4};
  p.kv.keys = p.kv.values = reinterpret_cast<void*>(256);
  p.rotary_dim = 64, p.inverse_frequency = some, p.position = ints, p.q = p.k = p.v = some, p.q_out = some;
  const auto refused = [&](const std::string& field, auto change) { return refused_with(field, p, change); };
  CHECK(refused("head_dim is 80", [](Params& x) { x.kv.head_dim = 80; }));
  CHECK(refused("rotary_dim", [](Params& x) { x.rotary_dim = 66; }));
  CHECK(refused("n_heads", [](Params& x) { x.n_heads = 3; }));
  CHECK(refused("position", [](Params& x) { x.position = nullptr; }));
  CHECK(refused("kv.keys", [](Params& x) { x.kv.keys = reinterpret_cast<void*>(257); }));
  CHECK(refused("k_stride", [](Params& x) { x.k_stride = 129; }));
  CHECK(refused("bias", [](Params& x) { x.bias = reinterpret_cast<float*>(258); }));
}

}  // namespace
}  // namespace deltacal::kernels::cuda::append_kv
