// Reading before the kernel before has ended, which only the emulator can put to the test: here that kernel
// writes exactly when it is waited for.
#include "../cuda/attention.h"
#include "block.h"
#include "kernels/append_kv/cuda.h"
#include "kernels/linear/cuda.h"
#include "kernels/page_score/cuda.h"
#include "kernels/rms_norm/cuda.h"
#include "kernels/select_pages/cuda.h"

namespace deltacal::kernels::cuda::paged_attention {
namespace {

// The last page of every row is NaN until the kernel before is waited for.
void write_last_pages_late(DeviceCache& cache, const std::vector<int32_t>& length) {
  const PagedKv kv = cache.kv();
  const std::vector<uint16_t> keys = cache.keys(), values = cache.values();
  for (size_t r = 0; r < length.size(); ++r) {
    const int page = cache.host().physical(int(r), pages_for(length[r]) - 1);
    const size_t from = block_offset(kv.head_dim, page * kv.n_kv_heads),
                 bytes = block_offset(kv.head_dim, kv.n_kv_heads) * sizeof(uint16_t);
    std::memset(static_cast<uint16_t*>(kv.keys) + from, 0xff, bytes);
    std::memset(static_cast<uint16_t*>(kv.values) + from, 0xff, bytes);
  }
  emulator::previous_kernel = [kv, keys, values] {
    std::memcpy(kv.keys, keys.data(), keys.size() * sizeof(uint16_t));
    std::memcpy(kv.values, values.data(), values.size() * sizeof(uint16_t));
  };
}

TEST_CASE(
    "cuda paged attention: of what the append before it writes nothing is read early, with and without "
    "lists") {
  const std::vector<int32_t> length{300, 5, 96, 97, 16};
  for (const bool lists : {false, true}) {
    CAPTURE(lists);
    DeviceCache cache(Type::bf16, 2, 64, {300, 5, 96, 97, 16}, 1);
    Call call(cache, 3, iota(5), length, 2);
    if (lists) call.set_lists({{18, 0, 7, 5}, {}, {2, 5, 1}, {6}, {}});
    call.early = true;
    write_last_pages_late(cache, length);
    require_near(Type::bf16, call.on_device(), call.expected());
    CHECK(!emulator::previous_kernel);
  }
}

TEST_CASE("cuda paged attention: a call of idle rows alone waits for the kernel before") {
  DeviceCache cache(Type::bf16, 1, 64, {20}, 3);
  Call call(cache, 3, {0, 0}, {0, 0}, 4);
  call.early = true;
  emulator::previous_kernel = [] {};
  call.on_device();
  CHECK(!emulator::previous_kernel);
}

}  // namespace
}  // namespace deltacal::kernels::cuda::paged_attention

namespace deltacal::kernels::cuda {
namespace {

TEST_CASE("cuda page score and selection: of what the kernel before writes nothing is read early") {
  const std::vector<int32_t> length{300, 0, 75};
  const int max_pages = 20, rows = 3, k = 6;
  DeviceCache cache(Type::bf16, 2, 64, {300, 20, 75}, 1);
  paged_attention::Call call(cache, 3, std::vector<int>{0, 1, 2}, length, 2);
  Array<char> records(records_bytes(rows, call.n_heads, 2, max_pages));
  Array<float> lse2(call.heads()), score(size_t(rows * max_pages));
  Array<int32_t> seen(length), list(size_t(rows * k));
  paged_attention::Workspace workspace(rows, call.n_heads, cache.kv());
  const PageLogits logits{max_pages, records.get(), lse2.get()};
  call.on_device(workspace, logits);

  page_score::Params s;
  s.n_rows = rows, s.n_heads = call.n_heads, s.n_kv_heads = 2, s.logits = logits, s.length = seen.get();
  s.out_pages = max_pages, s.score = score.get();
  select_pages::Params l;
  l.n_rows = rows, l.k_pages = k, l.l_pages = 2, l.score = score.get(), l.score_stride = max_pages;
  l.length = seen.get(), l.list = list.get();
  page_score::run(s, {});
  select_pages::run(l, {});
  const std::vector<float> scores = score.read();
  const std::vector<int32_t> lists = list.read();

  const std::vector<char> kept = records.read();
  const std::vector<float> sums = lse2.read();
  std::memset(records.get(), 0xff, kept.size());
  std::memset(lse2.get(), 0xff, sums.size() * sizeof(float));
  score.set(std::vector<float>(scores.size(), -1));
  emulator::previous_kernel = [&] {
    std::memcpy(records.get(), kept.data(), kept.size());
    std::memcpy(lse2.get(), sums.data(), sums.size() * sizeof(float));
  };
  page_score::run(s, {nullptr, true});
  CHECK(!emulator::previous_kernel);
  for (size_t i = 0; i < scores.size(); ++i) {
    CAPTURE(i);
    CHECK(score.read()[i] == (length[i / size_t(max_pages)] == 0 ? -1 : scores[i]));
  }

  std::memset(score.get(), 0xff, scores.size() * sizeof(float));
  list.set(std::vector<int32_t>(lists.size(), 99));
  emulator::previous_kernel = [&] { std::memcpy(score.get(), scores.data(), scores.size() * sizeof(float)); };
  select_pages::run(l, {nullptr, true});
  CHECK(!emulator::previous_kernel);
  CHECK(list.read() == lists);
}

}  // namespace
}  // namespace deltacal::kernels::cuda

namespace deltacal::kernels::cuda::append_kv {
namespace {

TEST_CASE("cuda append: queries, keys and values are read only when the kernel before has ended") {
  constexpr int heads = 6, kv_heads = 2, dim = 64, width = (heads + 2 * kv_heads) * dim;
  for (const int position : {37, -1}) {
    CAPTURE(position);
    DeviceCache cache(Type::bf16, kv_heads, dim, {48}, 1);
    const std::vector<uint16_t> bits = to_bits(Type::bf16, normals(width, 2));
    Array<uint16_t> projected(bits), q(size_t(heads * dim));
    Array<float> frequency(std::vector<float>(dim / 2, 0.01f)), bias(normals(width, 3));
    Array<int32_t> at(std::vector<int32_t>{position}), sequence(std::vector<int32_t>{0});
    Params p;
    p.n_rows = 1, p.n_heads = heads, p.rotary_dim = dim, p.inverse_frequency = frequency.get();
    p.position = at.get(), p.sequence = sequence.get(), p.bias = bias.get(), p.q = projected.get(),
    p.k = projected.get() + heads * dim;
    p.v = projected.get() + (heads + kv_heads) * dim, p.q_out = q.get(), p.kv = cache.kv();
    run(p, {});
    const std::vector<uint16_t> turned = q.read(), keys = cache.keys(), values = cache.values();
    cache.upload();
    p.kv = cache.kv();
    q.set(std::vector<uint16_t>(turned.size(), 0xffff));
    std::memset(projected.get(), 0xff, bits.size() * sizeof(uint16_t));
    emulator::previous_kernel = [&] {
      std::memcpy(projected.get(), bits.data(), bits.size() * sizeof(uint16_t));
    };
    run(p, {nullptr, true});
    CHECK(!emulator::previous_kernel);
    CHECK((position < 0 || q.read() == turned));
    CHECK(cache.keys() == keys);
    CHECK(cache.values() == values);
  }
}

}  // namespace
}  // namespace deltacal::kernels::cuda::append_kv

namespace deltacal::kernels::cuda::rms_norm {
namespace {

TEST_CASE(
    "cuda rms norm: the residual stream and what is added are read only when the kernel before has ended") {
  constexpr int rows = 2, n = 2056;
  const std::vector<float> x = normals(rows * n, 1);
  const std::vector<uint16_t> y = to_bits(Type::bf16, normals(rows * n, 2));
  Array<float> stream(x), weight(normals(n, 3));
  Array<uint16_t> added(y), out(rows * n);
  Params p;
  p.n_rows = rows, p.n = n, p.epsilon = 1e-6f, p.x = stream.get(), p.y = added.get();
  p.weight = weight.get(), p.out = out.get();
  run(p, {});
  const std::vector<float> sum = stream.read();
  const std::vector<uint16_t> expected = out.read();
  std::memset(stream.get(), 0xff, x.size() * sizeof(float));
  std::memset(added.get(), 0xff, y.size() * sizeof(uint16_t));
  out.set(std::vector<uint16_t>(expected.size(), 0xffff));
  emulator::previous_kernel = [&] {
    std::memcpy(stream.get(), x.data(), x.size() * sizeof(float));
    std::memcpy(added.get(), y.data(), y.size() * sizeof(uint16_t));
  };
  run(p, {nullptr, true});
  CHECK(!emulator::previous_kernel);
  CHECK(stream.read() == sum);
  CHECK(out.read() == expected);
}

}  // namespace
}  // namespace deltacal::kernels::cuda::rms_norm

namespace deltacal::kernels::cuda::linear {
namespace {

TEST_CASE("cuda linear: inputs are read only when the kernel before has ended, for few rows and for many") {
  // Few rows of a small weight, and of a large one; many.
  for (const auto& [rows, n, k] :
       {std::tuple(1, 136, 1096), {2, 24000, 72}, {9, 136, 1096}, {20, 136, 1096}, {64, 136, 1096}}) {
    CAPTURE(rows, n);
    const std::vector<uint16_t> bits = to_bits(Type::bf16, normals(size_t(rows * k), 3));
    Array<uint16_t> x(bits), out(size_t(rows * n)),
        weight(to_bits(Type::bf16, normals(size_t(n * k), 4, 1 / std::sqrt(float(k)))));
    Array<char> workspace(workspace_bytes(), 0);
    Params p;
    p.n_rows = rows, p.n = n, p.k = k, p.x = x.get(), p.weight = weight.get(), p.out = out.get();
    p.workspace = workspace.get();
    run(p, {});
    const std::vector<uint16_t> expected = out.read();
    std::memset(x.get(), 0xff, bits.size() * sizeof(uint16_t));
    emulator::previous_kernel = [&] { std::memcpy(x.get(), bits.data(), bits.size() * sizeof(uint16_t)); };
    run(p, {nullptr, true});
    CHECK(!emulator::previous_kernel);
    CHECK(out.read() == expected);
  }
}

}  // namespace
}  // namespace deltacal::kernels::cuda::linear
