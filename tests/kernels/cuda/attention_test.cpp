#include "attention.h"

namespace deltacal::kernels::cuda::paged_attention {
namespace {

void require_equals_reference(Call& call) {
  require_near(call.cache.type(), call.on_device(), call.expected());
}

// The first three tests say where a fault is: in the keys, in the values, or in what follows.
TEST_CASE(
    "cuda paged attention: the log-sum of one key and a query with one element is that element of the key") {
  NEEDS_DEVICE;
  for (const Type type : both_types) {
    for (const int dim : {64, 96, 128, 256}) {
      DeviceCache cache(type, 2, dim, {16}, 1);
      Call call(cache, 8, {}, std::vector<int32_t>(size_t(dim / 8), 1), 2);
      call.scale = 1;
      std::fill(call.q.begin(), call.q.end(), 0.0f);  // head h of row r has element 8 r + h
      for (int r = 0; r < dim / 8; ++r)
        for (int h = 0; h < 16; ++h) call.q[size_t((r * 16 + h) * dim + 8 * r + h % 8)] = 1;
      const Result found = call.on_device();
      for (int r = 0; r < dim / 8; ++r) {
        for (int h = 0; h < 16; ++h) {
          CAPTURE(dim, r, h);
          CHECK(std::abs(found.lse[size_t(r * 16 + h)] - key_at(cache.host(), 0, h / 8, 0, 8 * r + h % 8)) <
                1e-6);
        }
      }
    }
  }
}

TEST_CASE("cuda paged attention: a single token's output is its value") {
  NEEDS_DEVICE;
  for (const Type type : both_types) {
    for (const int dim : {64, 96, 128, 256}) {
      DeviceCache cache(type, 2, dim, {1}, 5);
      Call call(cache, 16, {}, {1}, 6);
      const Result found = call.on_device();
      for (int h = 0; h < 32; ++h) {
        for (int d = 0; d < dim; ++d) {
          CAPTURE(dim, h, d);
          REQUIRE(found.out[size_t(h * dim + d)] == value_at(cache.host(), 0, h / 16, 0, d));
        }
      }
    }
  }
}

TEST_CASE("cuda paged attention: a key that takes all gives its value, wherever it is") {
  NEEDS_DEVICE;
  for (const int dim : {64, 96, 128, 256}) {
    DeviceCache cache(Type::bf16, 1, dim, {100}, 7);
    Call call(cache, 1, {}, std::vector<int32_t>(100, 100), 8);
    call.scale = 8;
    for (int t = 0; t < 100; ++t)
      for (int d = 0; d < dim; ++d) call.q[size_t(t * dim + d)] = key_at(cache.host(), 0, 0, t, d);
    const Result found = call.on_device();
    for (int t = 0; t < 100; ++t) {
      for (int d = 0; d < dim; ++d) {
        CAPTURE(dim, t, d);
        REQUIRE(std::abs(found.out[size_t(t * dim + d)] - value_at(cache.host(), 0, 0, t, d)) < 1e-2);
      }
    }
  }
}

TEST_CASE("cuda paged attention: equals the reference at every head size, group and type") {
  NEEDS_DEVICE;
  for (const Type type : both_types) {
    for (const int head_dim : {64, 96, 128, 256}) {
      DeviceCache cache(type, 2, head_dim, {75}, 1);
      for (const int group : {1, 3, 7, 8, 9, 16, 20}) {
        Call call(cache, group, {}, {75, 1, 16, 17, 33, 34, 35}, 2);
        CAPTURE(head_dim, group, int(type));
        require_equals_reference(call);
      }
    }
  }
}

TEST_CASE("cuda paged attention: one token in the last page, one token only, one page") {
  NEEDS_DEVICE;
  DeviceCache cache(Type::bf16, 3, 64, {545}, 3);
  for (const int length : {1, 16, 17, 256, 257, 512, 513, 545}) {
    Call call(cache, 3, {}, {length}, 4);
    CAPTURE(length);
    require_equals_reference(call);
  }
}

TEST_CASE(
    "cuda paged attention: rows and lists of fewer pages than warps, cut where they meet a block's end") {
  NEEDS_DEVICE;
  for (const int head_dim : {64, 256}) {
    CAPTURE(head_dim);
    DeviceCache cache(Type::bf16, 2, head_dim, {48, 300}, 23);
    Call call(cache, 20, {0, 0, 1, 0, 0, 1}, {48, 16, 300, 33, 1, 300}, 24);
    call.set_lists({{}, {}, {17, 3}, {2, 0}, {}, {5}});
    require_equals_reference(call);
  }
}

TEST_CASE("cuda paged attention: 8192 pages, shared by all blocks") {
  NEEDS_DEVICE;
  DeviceCache cache(Type::bf16, 1, 64, {8192 * 16 - 3}, 7);
  Call call(cache, 2, {}, {8192 * 16 - 3}, 8);
  require_equals_reference(call);
}

TEST_CASE("cuda paged attention: huge logits neither overflow nor lose the largest") {
  NEEDS_DEVICE;
  DeviceCache cache(Type::bf16, 1, 64, {700}, 9);
  for (const float deviation : {1e3f, 1e15f, 1e30f}) {
    Call call(cache, 3, {}, {700, 699, 20}, 10, deviation);
    const Result expected = call.expected(), found = call.on_device();
    for (size_t i = 0; i < found.out.size(); ++i) REQUIRE(std::abs(found.out[i] - expected.out[i]) < 2e-2f);
    for (size_t i = 0; i < found.lse.size(); ++i)
      REQUIRE(std::abs(found.lse[i] - expected.lse[i]) <= 1e-5f * std::abs(expected.lse[i]));
  }
}

TEST_CASE("cuda paged attention: all logits equal gives the mean of the values") {
  NEEDS_DEVICE;
  DeviceCache cache(Type::f16, 1, 64, {530}, 11);
  Call call(cache, 1, {}, {530}, 12);
  std::fill(call.q.begin(), call.q.end(), 0.0f);
  const Result found = call.on_device();
  for (int d = 0; d < 64; ++d) {
    double mean = 0;
    for (int t = 0; t < 530; ++t) mean += value_at(cache.host(), 0, 0, t, d) / 530.0;
    REQUIRE(std::abs(found.out[size_t(d)] - mean) < 1e-4);
  }
  REQUIRE(std::abs(found.lse[0] - std::log(530.0)) < 1e-5);
}

TEST_CASE("cuda paged attention: a NaN query gives NaN, and in its own head alone") {
  NEEDS_DEVICE;
  DeviceCache cache(Type::bf16, 1, 64, {300}, 13);
  Call call(cache, 9, {}, {300}, 14);
  call.q[3] = call.q[8 * 64] = std::numeric_limits<float>::quiet_NaN();
  const Result found = call.on_device();
  for (int h = 0; h < 9; ++h) {
    CAPTURE(h);
    REQUIRE(std::isnan(found.out[size_t(h * 64)]) == (h == 0 || h == 8));
    REQUIRE(std::isnan(found.lse[size_t(h)]) == (h == 0 || h == 8));
  }
}

TEST_CASE(
    "cuda paged attention: several sequences, very different lengths, lists and full rows in one call") {
  NEEDS_DEVICE;
  for (const Type type : both_types) {
    DeviceCache cache(type, 2, 128, {2000, 5, 333}, 15);
    Call call(cache, 7, {0, 1, 2, 0, 2, 2, 1, 0}, {2000, 5, 333, 17, 330, 331, 1, 1500}, 16);
    require_equals_reference(call);
    call.set_lists({{124, 3, 77, 0}, {0}, {}, {1, 0}, {20, 19, 18}, {}, {}, {93, 92, 5, 6, 7, 8, 1}});
    require_equals_reference(call);
  }
}

TEST_CASE("cuda paged attention: one row of 500 keys among long ones, and a sequence many times") {
  NEEDS_DEVICE;
  DeviceCache cache(Type::bf16, 4, 128, {4000, 500, 3900}, 17);
  Call call(cache, 7, {0, 1, 2, 0, 0, 2, 2, 0}, {4000, 500, 3900, 4000, 3999, 3000, 3900, 2000}, 18);
  require_equals_reference(call);
}

TEST_CASE("cuda paged attention: random shapes equal the reference") {
  NEEDS_DEVICE;
  std::mt19937 random(17);
  const auto upto = [&](int n) { return 1 + int(random() % unsigned(n)); };
  for (int trial = 0; trial < 24; ++trial) {
    const Type type = trial % 2 ? Type::bf16 : Type::f16;
    const int dims[] = {64, 96, 128, 256}, groups[] = {1, 3, 7, 8};
    const int n_sequences = upto(3), rows = upto(40);
    std::vector<int> written;
    for (int s = 0; s < n_sequences; ++s) written.push_back(upto(trial % 8 == 0 ? 3000 : 500));
    DeviceCache cache(type, upto(3), dims[random() % 4], written, random());
    std::vector<int32_t> sequence, length;
    std::vector<std::vector<int32_t>> lists;
    for (int r = 0; r < rows; ++r) {
      sequence.push_back(int(random() % unsigned(n_sequences)));
      length.push_back(upto(written[size_t(sequence.back())]));
      std::vector<int32_t> pages = iota(pages_for(length.back()));
      std::shuffle(pages.begin(), pages.end(), random);
      pages.resize(random() % 3 ? size_t(upto(int(pages.size()))) : 0);
      lists.push_back(pages);
    }
    Call call(cache, groups[random() % 4], sequence, length, random());
    if (trial % 4 < 2) call.set_lists(lists);
    CAPTURE(trial);
    require_equals_reference(call);
  }
}

TEST_CASE("cuda paged attention: hundreds of rows") {
  NEEDS_DEVICE;
  DeviceCache cache(Type::bf16, 2, 64, {400}, 30);
  Call call(cache, 3, {}, iota(400, 1), 31);
  require_equals_reference(call);
}

TEST_CASE(
    "cuda paged attention: infinite or NaN keys and values behind a row's length change none of its bits") {
  NEEDS_DEVICE;
  DeviceCache cache(Type::bf16, 1, 64, {320}, 20);
  Call call(cache, 3, {}, iota(16, 305), 21);
  const Result before = call.on_device();
  for (int d = 0; d < 64; ++d) {
    cache.host_cache().set_value(0, 0, 310, d, std::numeric_limits<float>::infinity());
    cache.host_cache().set_key(0, 0, 310, d, std::numeric_limits<float>::quiet_NaN());
  }
  cache.upload();
  const Result after = call.on_device();
  const long untouched = 6 * 3 * 64;  // rows of length 305 .. 310 do not see position 310
  REQUIRE(std::equal(before.out.begin(), before.out.begin() + untouched, after.out.begin()));
  REQUIRE(std::isnan(after.out[size_t(untouched)]));
}

TEST_CASE(
    "cuda paged attention: rows that see no more pages than the list's prefix give the bits of no list") {
  NEEDS_DEVICE;
  DeviceCache cache(Type::bf16, 2, 96, {777}, 22);
  for (const int length : {1, 16, 300, 777}) {
    Call call(cache, 3, {}, {length, length}, 23);
    Workspace workspace(2, 6, cache.kv());
    const Result full = call.on_device(workspace);
    std::vector<int32_t> descending = iota(pages_for(length));
    std::reverse(descending.begin(), descending.end());
    call.set_lists({descending, descending});
    REQUIRE(call.on_device(workspace) == full);
    REQUIRE(call.on_device(workspace, {}, pages_for(length)) == full);
  }
}

TEST_CASE("cuda paged attention: k_pages is the prefix of every row's list") {
  NEEDS_DEVICE;
  DeviceCache cache(Type::bf16, 2, 128, {600, 40}, 24);
  Call call(cache, 7, {0, 1, 0}, {600, 40, 500}, 25);
  Workspace workspace(3, 14, cache.kv());
  call.set_lists({{37, 5, 1, 9}, {2, 1, 0}, {31, 30, 2, 3}});
  const Result found = call.on_device(workspace, {}, 3);
  call.set_lists({{37, 5, 1}, {}, {31, 30, 2}});
  require_near(Type::bf16, found, call.expected());
}

TEST_CASE(
    "cuda paged attention: the same call gives the same bits, and leaves the workspace ready for others") {
  NEEDS_DEVICE;
  DeviceCache cache(Type::bf16, 2, 128, {3000, 77}, 26);
  Call large(cache, 7, {0, 1, 0, 0}, {3000, 77, 2999, 1}, 27), small(cache, 7, {0}, {2500}, 28);
  Workspace workspace(4, 14, cache.kv());
  const Result first = large.on_device(workspace), second = small.on_device(workspace);
  for (int i = 0; i < 3; ++i) {
    REQUIRE(large.on_device(workspace) == first);
    REQUIRE(small.on_device(workspace) == second);
  }
}

TEST_CASE("cuda paged attention: nothing of an idle row is written") {
  NEEDS_DEVICE;
  DeviceCache cache(Type::bf16, 1, 64, {200}, 29);
  Call call(cache, 2, {}, {0, 200, 0, 0, 5, 0}, 30);
  const Result found = call.on_device();
  call.length = {200, 200, 200, 200, 5, 200};  // so that the reference takes it
  const Result expected = call.expected();
  for (size_t r = 0; r < 6; ++r) {
    for (size_t i = r * 128; i < (r + 1) * 128; ++i) {
      if (r == 1 || r == 4) {
        REQUIRE(std::abs(found.out[i] - expected.out[i]) < 2e-2);
      } else {
        REQUIRE(std::isnan(found.out[i]));  // as the array was
      }
    }
  }
}

TEST_CASE("cuda paged attention: bad parameters are refused with the field's name") {
  NEEDS_DEVICE;
  DeviceCache cache(Type::bf16, 2, 64, {100}, 31);
  Array<float> some(1024);
  Array<int32_t> ints(64, 0);
  const auto refused = [&](const std::string& field, auto change) {
    Params p;
    p.n_rows = 1, p.n_heads = 6, p.scale = 1, p.q = some.get(), p.kv = cache.kv(), p.length = ints.get();
    p.out = some.get(), p.workspace = some.get(), p.list = ints.get(), p.list_stride = 4, p.k_pages = 2;
    change(p);
    try {
      run(p, {});
    } catch (const std::exception& e) {
      CAPTURE(std::string(e.what()));
      return std::string(e.what()).find(field) != std::string::npos;
    }
    return false;
  };
  CHECK(refused("n_heads", [](Params& p) { p.n_heads = 5; }));
  CHECK(refused("head_dim is 32", [](Params& p) { p.kv.head_dim = 32; }));
  CHECK(refused("scale", [](Params& p) { p.scale = 0; }));
  CHECK(refused("workspace", [](Params& p) { p.workspace = nullptr; }));
  CHECK(refused("k_pages", [](Params& p) { p.k_pages = 5; }));
  CHECK(refused("list_stride", [](Params& p) { p.list_stride = 0; }));
  CHECK(refused("logits", [&](Params& p) { p.logits.records = some.get(); }));
}

}  // namespace
}  // namespace deltacal::kernels::cuda::paged_attention
