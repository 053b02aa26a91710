// A call of paged attention on the device and what it owns; the same call by the reference on the same
// rounded inputs.
#pragma once
#include <cmath>

#include "device.h"
#include "kernels/paged_attention/cuda.h"
#include "kernels/paged_attention/paged_attention.h"

namespace deltacal::kernels::cuda::paged_attention {

struct Result {
  std::vector<float> out;  // [n_rows, n_heads, head_dim]
  std::vector<float> lse;  // [n_rows, n_heads]
  bool operator==(const Result&) const = default;
};

class Workspace {
 public:
  Workspace(int n_rows, int n_heads, const PagedKv& kv) : memory_(workspace_bytes(n_rows, n_heads, kv), 0) {}
  void* get() { return memory_.get(); }

 private:
  Array<char> memory_;
};

struct Call {
  Call(DeviceCache& c, int group, std::vector<int32_t> sequences, std::vector<int32_t> lengths, unsigned seed,
       float deviation = 1)
      : cache(c),
        n_heads(group * c.host().n_kv_heads),
        scale(1 / std::sqrt(float(c.host().head_dim))),
        sequence(std::move(sequences)),
        length(std::move(lengths)),
        q(rounded_normals(c.type(), length.size() * size_t(n_heads) * size_t(c.host().head_dim), seed,
                          deviation)) {
    if (sequence.empty()) sequence.assign(length.size(), 0);
  }
  // An empty list: the row attends to all.
  void set_lists(const std::vector<std::vector<int32_t>>& lists) {
    list_stride = 1, list_length.clear();
    for (const auto& l : lists) list_stride = std::max(list_stride, int(l.size()));
    list.assign(lists.size() * size_t(list_stride), -1);
    for (size_t r = 0; r < lists.size(); ++r) {
      list_length.push_back(lists[r].empty() ? -1 : int32_t(lists[r].size()));
      std::copy(lists[r].begin(), lists[r].end(), list.begin() + long(r) * list_stride);
    }
  }
  size_t heads() const { return length.size() * size_t(n_heads); }
  size_t outputs() const { return heads() * size_t(cache.host().head_dim); }

  Result on_device(Workspace& workspace, const PageLogits& logits = {}, int k_pages = -1) {
    Array<uint16_t> q_in(to_bits(cache.type(), q)), out(outputs());
    Array<float> lse(heads());
    Array<int32_t> s(sequence), n(length), l(list), ln(list_length);
    Params p;
    p.n_rows = int(length.size()), p.n_heads = n_heads, p.scale = scale, p.q = q_in.get(), p.kv = cache.kv();
    p.sequence = s.get(), p.length = n.get(), p.out = out.get(), p.lse = lse.get(),
    p.workspace = workspace.get();
    p.logits = logits;
    if (!list.empty()) {
      p.list = l.get(), p.list_stride = list_stride, p.k_pages = k_pages;
      p.list_length = k_pages == -1 ? ln.get() : nullptr;
    }
    p.early = early;
    run(p, {nullptr, early});
    return {from_bits(cache.type(), out.read()), lse.read()};
  }
  Result on_device() {
    Workspace workspace(int(length.size()), n_heads, cache.kv());
    return on_device(workspace);
  }
  // Over the cache `of`, by default this call's.
  Result expected(const kernels::PagedKv* of = nullptr) const {
    Result result{std::vector<float>(outputs()), std::vector<float>(heads())};
    kernels::paged_attention::Params p;
    p.n_rows = int(length.size()), p.n_heads = n_heads, p.scale = scale, p.q = q.data(),
    p.kv = of ? *of : cache.host();
    p.sequence = sequence.data(), p.length = length.data(), p.out = result.out.data(),
    p.lse = result.lse.data();
    if (!list.empty()) p.list = list.data(), p.list_length = list_length.data(), p.list_stride = list_stride;
    kernels::paged_attention::reference(p);
    return result;
  }

  DeviceCache& cache;
  int n_heads;
  float scale;
  std::vector<int32_t> sequence, length, list, list_length;
  int list_stride = 0;
  bool early = false;  // pages are asked for before the kernel before has ended
  std::vector<float> q;
};

// What an output may be off by: its own rounding, and that of each probability before the product with the
// values, which are of magnitude 5 at most.
inline double output_tolerance(Type type, double expected) {
  return 1.01 * roundoff(type) * (std::abs(expected) + 5) + 1e-4;
}

inline void require_near(Type type, const Result& found, const Result& expected,
                         double lse_tolerance = 2e-5) {
  REQUIRE(found.out.size() == expected.out.size());
  const size_t dim = found.out.size() / found.lse.size();
  for (size_t i = 0; i < found.lse.size(); ++i) {
    CAPTURE(i, found.lse[i], expected.lse[i]);
    REQUIRE(std::abs(double(found.lse[i]) - expected.lse[i]) <=
            lse_tolerance * (1 + std::abs(expected.lse[i])));
  }
  double squares = 0, errors = 0;
  for (size_t i = 0; i < found.out.size(); ++i) {
    const double error = double(found.out[i]) - expected.out[i];
    CAPTURE(i / dim, i % dim, found.out[i], expected.out[i]);
    REQUIRE(std::abs(error) <= output_tolerance(type, expected.out[i]));
    squares += double(expected.out[i]) * expected.out[i], errors += error * error;
  }
  REQUIRE(errors <= 4 * roundoff(type) * roundoff(type) * squares + 1e-12 * double(found.out.size()));
}

inline std::vector<int32_t> iota(int n, int first = 0) {
  std::vector<int32_t> x(size_t(n), 0);
  std::iota(x.begin(), x.end(), first);
  return x;
}

}  // namespace deltacal::kernels::cuda::paged_attention
