#include "device.h"
#include "kernels/gather_pages/cuda.h"

namespace deltacal::kernels::cuda::gather_pages {
namespace {

TEST_CASE("cuda gather_pages: rows are what the host's cache holds, any head size, a last page half full") {
  NEEDS_DEVICE;
  for (const int head_dim : {64, 96, 128, 256}) {
    for (const int n_keys : {1, 15, 16, 43}) {
      CAPTURE(head_dim, n_keys);
      const int n_kv = 3, sequence = 1;
      DeviceCache cache(Type::bf16, n_kv, head_dim, {20, 43, 5}, 1);
      const size_t n = size_t(n_keys) * n_kv * size_t(head_dim);
      Array<uint16_t> keys(n + 8), values(n + 8);
      Params p;
      p.kv = cache.kv(), p.sequence = sequence, p.n_keys = n_keys, p.keys = keys.get(),
      p.values = values.get();
      run(p, {});
      const std::vector<uint16_t> k = keys.read(), v = values.read();
      const kernels::PagedKv& h = cache.host();
      for (int t = 0; t < n_keys; ++t)
        for (int g = 0; g < n_kv; ++g)
          for (int d = 0; d < head_dim; ++d) {
            const size_t at = (size_t(t) * n_kv + size_t(g)) * size_t(head_dim) + size_t(d);
            REQUIRE(from_bits(Type::bf16, k[at]) == key_at(h, sequence, g, t, d));
            REQUIRE(from_bits(Type::bf16, v[at]) == value_at(h, sequence, g, t, d));
          }
      for (size_t i = n; i < n + 8; ++i) CHECK((k[i] == 0xffff && v[i] == 0xffff));  // nothing past the end
    }
  }
}

TEST_CASE("cuda gather_pages: bad parameters are refused with the field's name") {
  int32_t ints[4];
  Params p;
  p.kv = {Type::bf16, 2, 64, 4, ints, ints, ints, 4};
  p.kv.keys = p.kv.values = reinterpret_cast<void*>(256);
  p.n_keys = 20, p.keys = p.values = reinterpret_cast<void*>(256);
  const auto refused = [&](const std::string& field, auto change) { return refused_with(field, p, change); };
  CHECK(refused("n_keys is -1", [](Params& x) { x.n_keys = -1; }));
  CHECK(refused("n_keys is 65", [](Params& x) { x.n_keys = 65; }));
  CHECK(refused("sequence", [](Params& x) { x.sequence = -1; }));
  CHECK(refused("head_dim is 80", [](Params& x) { x.kv.head_dim = 80; }));
  CHECK(refused("gather_pages: keys", [](Params& x) { x.keys = reinterpret_cast<void*>(264); }));
  CHECK(refused("gather_pages: keys", [](Params& x) { x.keys = nullptr; }));
  CHECK(refused("gather_pages: values", [](Params& x) { x.values = reinterpret_cast<void*>(264); }));
}

}  // namespace
}  // namespace deltacal::kernels::cuda::gather_pages
