// What needs no device: the layout of pages, the fragments of matrix products, the plan of paged attention.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "kernels/cuda/fragments.h"
#include "kernels/paged_attention/cuda.h"
#include "kernels/paged_attention/cuda_plan.h"

namespace deltacal::kernels::cuda {
namespace {

constexpr int head_dims[] = {64, 96, 128, 256};

TEST_CASE("cuda pages: a block holds every element once, chunks stay whole") {
  for (const int dim : head_dims) {
    std::set<int> places;
    for (int i = 0; i < page_size; ++i) {
      for (int d = 0; d < dim; ++d) {
        const int at = block_element(dim, i, d);
        CHECK(at / dim == i);
        CHECK(at % chunk_elements == d % chunk_elements);
        places.insert(at);
      }
    }
    CHECK(places.size() == size_t(page_size * dim));
    CHECK(*places.rbegin() == page_size * dim - 1);
  }
}

// Places of 16 bytes, 0 to 7, of the addresses that lanes 8 m .. 8 m + 7 give: all different is free of
// conflicts.
template <class Row>
void require_no_conflicts(int dim, const Row& row_of) {
  for (int i = 0; i < dim / 16; ++i) {
    for (int matrix = 0; matrix < 4; ++matrix) {
      std::set<int> banks;
      for (int lane = 8 * matrix; lane < 8 * matrix + 8; ++lane) {
        const MatrixRow at = row_of(dim, lane);
        banks.insert((at.row + ((32 * i) ^ at.turn)) / 16 % 8);
      }
      REQUIRE(banks.size() == 8);
    }
  }
}

TEST_CASE("cuda pages: rows of a matrix lie in different banks of shared memory") {
  for (const int dim : head_dims) {
    require_no_conflicts(dim, rows_then_chunks);
    require_no_conflicts(dim, chunks_then_rows);
  }
}

// What ldmatrix brings to register m of a lane, as the elements' numbers in the block: two each.
struct Pair {
  int first, second;
};
template <class Row>
Pair loaded(int dim, int i, int lane, int m, bool transposed, const Row& row_of) {
  const auto address = [&](int row) {
    const MatrixRow at = row_of(dim, 8 * m + row);
    return (at.row + ((32 * i) ^ at.turn)) / 2;
  };
  const int r = lane / 4, c = lane % 4;
  if (!transposed) return {address(r) + 2 * c, address(r) + 2 * c + 1};
  return {address(2 * c) + r, address(2 * c + 1) + r};
}

TEST_CASE("cuda pages: ldmatrix brings the operands of the matrix products") {
  for (const int dim : head_dims) {
    for (int i = 0; i < dim / 16; ++i) {
      for (int lane = 0; lane < 32; ++lane) {
        const int r = lane / 4, c = lane % 4;
        for (int m = 0; m < 4; ++m) {
          // Keys: b0, b1 of keys 0-7, then of keys 8-15. B is (dimension, key) = (2c + 8 (m % 2), r).
          const int d = 16 * i + 8 * (m % 2) + 2 * c;
          const Pair key = loaded(dim, i, lane, m, false, rows_then_chunks);
          CHECK(key.first == block_element(dim, 8 * (m / 2) + r, d));
          CHECK(key.second == block_element(dim, 8 * (m / 2) + r, d + 1));
          // Queries: a0 .. a3 = (r, 2c), (r + 8, 2c), (r, 2c + 8), (r + 8, 2c + 8).
          const Pair query = loaded(dim, i, lane, m, false, chunks_then_rows);
          CHECK(query.first == block_element(dim, 8 * (m % 2) + r, 16 * i + 8 * (m / 2) + 2 * c));
          CHECK(query.second == query.first + 1);
          // Values: b0, b1 of dimensions 16 i + 0-7, then of the next eight. B is (key, dimension) = (2c + 8
          // (m % 2), r).
          const Pair value = loaded(dim, i, lane, m, true, chunks_then_rows);
          CHECK(value.first == block_element(dim, 8 * (m % 2) + 2 * c, 16 * i + 8 * (m / 2) + r));
          CHECK(value.second == block_element(dim, 8 * (m % 2) + 2 * c + 1, 16 * i + 8 * (m / 2) + r));
        }
      }
    }
  }
}

namespace pa = paged_attention;

TEST_CASE("cuda paged attention: the warps' outputs have one place each, without conflicts") {
  for (const int dim : head_dims) {
    std::set<int> places;
    for (int r = 0; r < 8; ++r)
      for (int x = 0; x < dim / 2; ++x) places.insert(pa::pair_place(dim, r, x));
    CHECK(places.size() == size_t(4 * dim));
    CHECK(*places.rbegin() == 4 * dim - 1);
    for (int tile = 0; tile < dim / 8; ++tile) {
      for (int half = 0; half < 2; ++half) {  // 8-byte stores go by half warps
        std::set<int> banks;
        for (int lane = 16 * half; lane < 16 * half + 16; ++lane)
          banks.insert(pa::pair_place(dim, lane / 4, 4 * tile + lane % 4) % 16);
        REQUIRE(banks.size() == 16);
      }
    }
  }
}

TEST_CASE("cuda paged attention: records are whole sectors, of no more than memory is reckoned for") {
  for (int group = 1; group <= 64; ++group) {
    CAPTURE(group);
    CHECK(record_bytes(group) % 32 == 0);
    CHECK(record_bytes(group) <= 20 * group + 32);  // step_memory() of src/decode
  }
  CHECK(records_bytes(3, 28, 4, 2048) == size_t(3 * 4 * 2048 * 160));
}

TEST_CASE("cuda paged attention: bursts come before the cache is full of logits, none in the last period") {
  // 132 multiprocessors of eight warps; seven heads of 128, pages of 4 KB of keys and as much of values.
  const pa::Bursts bursts = pa::bursts_of(50 << 20, 132 * 8, 160, 8192);
  for (const int n : {0, 1, bursts.hold, bursts.hold + 1, 249, 1000}) {
    CAPTURE(n);
    const pa::BurstPlan plan(bursts, n);
    int held = 0, drained = 0, longest = 0;  // pages since the last burst, within it
    for (int page = 0; page < n; ++page) {
      if (plan.drains(page)) {
        ++drained, held = 0;
      } else {
        REQUIRE((drained == 0 || drained == bursts.drain));
        drained = 0, longest = std::max(longest, ++held);
      }
    }
    CHECK(drained == 0);
    CHECK(longest <= bursts.hold);
    CHECK((longest == n) == (n <= bursts.hold));
  }
  const pa::BurstPlan none({}, 1000);
  for (int page = 0; page < 1000; ++page) REQUIRE(!none.drains(page));
}

TEST_CASE("cuda paged attention: a list that holds all pages, or none, is the row's pages in order") {
  CHECK(pa::attended_pages(33, -1) == 3);
  CHECK(pa::attended_pages(33, 2) == 2);
  CHECK(pa::attended_pages(33, 3) == 3);
  CHECK(pa::attended_pages(33, 64) == 3);
  CHECK(pa::attended_pages(0, 64) == 0);
  CHECK(pa::attended_pages(0, -1) == 0);
}

// Every unit in one block, parts of items in slots of their own.
void require_plan(const std::vector<int>& pages, int tiles, int n_blocks, int n_warps = 8) {
  int total = 0, longest = 0;
  for (const int n : pages) total += n * tiles, longest = std::max(longest, n);
  const int chunk = pa::chunk_units(total, longest, n_blocks, n_warps);
  REQUIRE(chunk >= 1);
  REQUIRE((chunk % n_warps == 0 || (chunk == longest && longest < n_warps)));
  REQUIRE(divide_up(total, chunk) <= n_blocks);
  const bool whole = longest <= 128 && chunk < longest + n_warps;  // short items that are not cut
  if (long(longest) * n_blocks <= 100L * total && !whole)
    REQUIRE(chunk <= divide_up(total, n_blocks) + n_warps - 1);
  std::set<int> slots;
  int first = 0;
  for (const int n : pages) {
    for (int tile = 0; tile < tiles && n > 0; ++tile, first += n) {
      const pa::Blocks blocks = pa::blocks_of(first, first + n, chunk);
      REQUIRE(blocks.last - blocks.first + 1 <= pa::max_parts);
      int seen = 0;
      for (int b = blocks.first; b <= blocks.last; ++b) {
        const int begin = std::max(first, b * chunk), end = std::min(first + n, (b + 1) * chunk);
        REQUIRE(begin < end);
        seen += end - begin;
        if (blocks.first != blocks.last) REQUIRE(slots.insert(pa::part_slot(b, first, chunk)).second);
      }
      REQUIRE(seen == n);
    }
  }
  REQUIRE((slots.empty() || *slots.rbegin() < 2 * n_blocks));
}

TEST_CASE("cuda paged attention: the plan takes every page once, whatever the rows' lengths") {
  require_plan({2048}, 4, 132);
  require_plan({2048}, 1, 132);
  require_plan({8192}, 1, 132);
  require_plan(std::vector<int>(32, 2048), 4, 132);
  require_plan(std::vector<int>(32, 64), 4, 132);
  require_plan({512, 512, 512, 32, 512, 512, 512, 512}, 4, 132);
  require_plan({1}, 1, 108, 4);
  require_plan(std::vector<int>(8, 1), 4, 132);
  std::mt19937 random(1);
  for (int trial = 0; trial < 2000; ++trial) {
    std::vector<int> pages;
    const int most = 1 << (random() % 12);
    for (int r = 1 + int(random() % 40); r > 0; --r) pages.push_back(int(random() % unsigned(most + 1)));
    if (pages[0] == 0) pages[0] = 1;
    require_plan(pages, 1 + int(random() % 9), 1 + int(random() % 300), 4 << random() % 2);
  }
}

TEST_CASE("cuda paged attention: short items about as many as the SMs stay whole, others are cut evenly") {
  CHECK(pa::chunk_units(32 * 64 * 4, 64, 132, 8) == 64);
  CHECK(pa::chunk_units(64 * 64 * 4, 64, 132, 8) == 128);
  CHECK(pa::chunk_units(24 * 64 * 4, 64, 132, 8) == 48);
  CHECK(pa::chunk_units(24 * 64 * 4, 64, 132, 4) == 48);
  CHECK(pa::chunk_units(32 * 2048 * 4, 2048, 132, 8) == 1992);
}

TEST_CASE(
    "cuda paged attention: items of fewer pages than warps have a block each, as far as there are blocks") {
  CHECK(pa::chunk_units(8 * 4, 1, 132, 8) == 1);
  CHECK(pa::chunk_units(33 * 4 * 4, 4, 132, 8) == 4);
  CHECK(pa::chunk_units(34 * 4 * 4, 4, 132, 8) == 8);
  CHECK(pa::chunk_units(8 * 4 * 3, 3, 132, 4) == 3);
  CHECK(pa::chunk_units(8 * 4 * 8, 8, 132, 8) == 8);
  CHECK(pa::chunk_units(0, 0, 132, 8) == 8);
}

}  // namespace
}  // namespace deltacal::kernels::cuda
