#include "decode/step_memory.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/error.h"
#include "decode/kv_cache.h"
#include "model/shape.h"

namespace deltacal::decode {
namespace {

using Catch::Matchers::ContainsSubstring;

TEST_CASE("step memory: what a batch needs, and the batch that fits where it does not") {
  const model::Description d = model::read_shape("qwen2.5-7b").description;
  const size_t weights = model::Model::device_bytes(d), gb = 1'000'000'000;
  const StepMemory need = step_memory(d, weights, 32, 32768);
  CHECK(1e-9 * double(need.cache) == Catch::Approx(28 * 4 * 128 * 4 * 32768e-9 * 32));
  CHECK(need.buffers < need.cache / 50);
  CHECK_NOTHROW(check_memory("--batch 32x32768", d, weights, 32, 32768, 140 * gb));
  CHECK_THROWS_WITH(check_memory("--batch 64x32768", d, weights, 64, 32768, 100 * gb),
                    ContainsSubstring("--batch 64x32768 needs 13") &&
                        ContainsSubstring("100.0 GB are free: 4") && ContainsSubstring("x32768 or 64x2") &&
                        ContainsSubstring("would fit"));
  // What is said to fit does.
  int rows = 64;
  while (step_memory(d, weights, rows, 32768).total() > 100 * gb) --rows;
  CHECK_THROWS_WITH(check_memory("", d, weights, 64, 32768, 100 * gb),
                    ContainsSubstring(fmt::format("{}x32768", rows)));
  CHECK_THROWS_WITH(check_memory("", d, weights, 1, 32768, 10 * gb), ContainsSubstring("no batch fits"));
}

TEST_CASE("step memory: prompts and recorded maps count, and as many rows as fit are found") {
  const model::Description d = model::read_shape("qwen2.5-7b").description;
  const size_t weights = model::Model::device_bytes(d), gb = 1'000'000'000;
  const auto buffers = [&](const StepUse& use) { return step_memory(d, weights, 32, 32768, use).buffers; };
  // Score and mass of 28 layers, 32 rows and 2048 pages; with heads four masses more.
  CHECK(buffers({.records = true}) - buffers({}) == size_t{28} * 32 * 2048 * 8);
  CHECK(buffers({.records = true, .group_mass = true}) - buffers({}) == size_t{28} * 32 * 2048 * 24);
  CHECK(buffers({.besides = 123}) - buffers({}) == 123);
  // What a prompt takes by itself.
  CHECK(buffers({.prefills = true}) - buffers({}) == prefill_memory(d, {.n_positions = 32768}).buffers);
  const StepUse use{.prefills = true, .records = true};
  const int n = rows_that_fit(64, d, weights, 32768, 100 * gb, use);
  REQUIRE((n > 20 && n < 64));
  CHECK_NOTHROW(check_memory("", d, weights, n, 32768, 100 * gb, use));
  CHECK_THROWS_WITH(check_memory("", d, weights, n + 1, 32768, 100 * gb, use),
                    ContainsSubstring(fmt::format("{}x32768", n)));
  CHECK(rows_that_fit(8, d, weights, 32768, 100 * gb, use) == 8);
  CHECK(rows_that_fit(8, d, weights, 32768, 10 * gb, use) == 0);
}

TEST_CASE("prefill memory: what a sequence needs, and the length that fits where it does not") {
  const model::Description d = model::read_shape("qwen2.5-7b").description;
  const size_t weights = model::Model::device_bytes(d), gb = 1'000'000'000;
  const StepMemory need = prefill_memory(d, {.weight_bytes = weights, .n_positions = 32768});
  CHECK(1e-9 * double(need.cache) == Catch::Approx(28 * 4 * 128 * 4 * 32768e-9));
  CHECK(need.weights == weights);
  // A chunk of 8,192 rows: gate and up of 37,888 numbers and their product alone are 0.93 GB.
  CHECK(need.buffers > gb);
  CHECK(need.buffers < 4 * gb);
  CHECK(prefill_memory(d, {.n_positions = 32768, .n_caches = 3}).cache == 3 * need.cache);
  CHECK(prefill_memory(d, {.n_positions = 32768, .others = gb}).buffers == need.buffers + gb);
  // Scores, masses and those of 4 heads: 5 maps more than the scores alone, 8,192 rows of 2,048 pages.
  CHECK(prefill_memory(d, {.n_positions = 32768, .n_maps = 6}).buffers ==
        need.buffers + size_t{5} * 8192 * 2048 * 4);
  // What comes after counts where it is larger, beside the last chunk's rows for the logits.
  CHECK(prefill_memory(d, {.n_positions = 32768, .after = [](int n) { return size_t(n); }}).buffers ==
        need.buffers);
  CHECK(prefill_memory(
            d, {.n_positions = 32768, .others = gb, .after = [](int n) { return size_t(n) * 1'000'000; }})
            .buffers == gb + size_t{32768} * 1'000'000 + size_t{8192} * 3584 * 4);
  CHECK(prefill_memory(d, {.n_positions = 100}).buffers < need.buffers / 20);  // no whole chunk
  CHECK_NOTHROW(check_memory("profile", d, {.weight_bytes = weights, .n_positions = 32768}, 40 * gb));
  CHECK_THROWS_WITH(check_memory("profile", d, {.weight_bytes = weights, .n_positions = 131072}, 25 * gb),
                    ContainsSubstring("profile needs 2") &&
                        ContainsSubstring("KV cache of 131072 positions 7.5") &&
                        ContainsSubstring("25.0 GB are free: ") && ContainsSubstring("positions would fit"));
  int fit = 131072;  // what is said to fit does, and one more does not
  while (prefill_memory(d, {.weight_bytes = weights, .n_positions = fit}).total() > 25 * gb) --fit;
  CHECK_THROWS_WITH(check_memory("profile", d, {.weight_bytes = weights, .n_positions = 131072}, 25 * gb),
                    ContainsSubstring(fmt::format(": {} positions", fit)));
  CHECK_THROWS_WITH(check_memory("profile", d, {.weight_bytes = weights, .n_positions = 64}, 10 * gb),
                    ContainsSubstring("no sequence fits"));
}

TEST_CASE(
    "prefill memory: as many pieces beside each other, and as large, as fit into what the weights leave") {
  const model::Description d = model::read_shape("qwen2.5-1.5b").description;
  const auto of = [&](int size) {  // the weights do not count
    return prefill_memory(d, {.weight_bytes = size_t{1} << 40, .n_positions = 20000, .n_caches = 1 + size});
  };
  const StepMemory one = of(1);
  const size_t margin = one.total() - one.weights - one.cache - one.buffers;
  const auto room = [&](int at_once, int size) {
    const StepMemory need = of(size);
    return margin + size_t(at_once) * (need.cache + need.buffers);
  };
  const auto found = [&](int most_at_once, size_t free) {
    const Pieces p = pieces_that_fit(most_at_once, 12, free, of);
    return std::pair(p.at_once, p.size);
  };
  CHECK(found(2, room(2, 12)) == std::pair(2, 12));
  CHECK(found(2, room(2, 5)) == std::pair(2, 5));
  CHECK(found(2, room(2, 5) - 1) == std::pair(2, 4));
  CHECK(found(2, room(2, 3)) == std::pair(2, 3));
  CHECK(found(2, room(2, 3) - 1).first == 1);  // one of 6 and more rather than two of 2
  CHECK(found(2, room(2, 3) - 1).second >= 6);
  CHECK(found(1, room(1, 7)) == std::pair(1, 7));
  CHECK(found(3, room(3, 4)) == std::pair(3, 4));
  CHECK(found(3, room(3, 3) - 1).first < 3);
  CHECK(found(1, room(1, 1)) == std::pair(1, 1));
  CHECK(found(1, 0) == std::pair(1, 1));  // it is for who asks to see that one fits
  CHECK(found(2, 0) == std::pair(1, 1));
}

TEST_CASE("KV cache: what its arrays take of a device's memory, in the pieces that LibTorch takes it in") {
  ModelInfo m = model::read_shape("qwen2.5-1.5b").description.info;  // 28 layers; 2 heads of 128: 512 bytes
  const size_t mib = size_t{1} << 20;
  CHECK(KvCache::device_bytes(m, 1, 32768) == 56 * 16 * mib);
  CHECK(KvCache::device_bytes(m, 1, 32769) == 56 * 18 * mib);
  CHECK(KvCache::device_bytes(m, 1, 14400) == 28 * 20 * mib);  // 7.03 MiB: two in 20
  CHECK(KvCache::device_bytes(m, 2, 16) == 2 * mib);           // 56 of 16 KiB
  CHECK(KvCache::device_bytes(m, 1, 0) == 0);
}

TEST_CASE("value rows: a block's arrays stay within what is counted, and are most of it") {
  const ModelInfo m = model::read_shape("qwen2.5-7b").description.info;
  REQUIRE((m.n_heads == 28 && m.head_dim == 128));
  for (const auto& [n_gradients, n_pages] : {std::pair(1, 8192), {1, 64}, {8, 2048}}) {
    // Mass and value, 28 heads, f32; queries and outputs in bf16; gradients in f32.
    const size_t row =
        size_t(1 + n_gradients) * 28 * size_t(n_pages) * 4 + 28 * 128 * size_t(4 + 4 * n_gradients);
    const size_t block = size_t(value_rows_at_once(m, n_gradients, n_pages)) * row;
    CAPTURE(n_gradients, n_pages, block);
    CHECK(block <= value_block_bytes);
    CHECK(block > value_block_bytes / 2);
  }
  CHECK(value_rows_at_once(m, 1 << 16, 65536) == 1);  // beyond it: one after the other
}

}  // namespace
}  // namespace deltacal::decode
