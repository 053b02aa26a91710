#include "kernels/row_tile/layout.h"

#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <set>

#include "core/error.h"
#include "kernels/record_scores/params.h"
#include "kernels/record_values/params.h"

namespace deltacal::kernels::cuda::row_tile {
namespace {

constexpr int head_dims[] = {64, 96, 128, 256};

TEST_CASE("row tile: the slots of all steps hold every dimension once") {
  for (const int head_dim : head_dims) {
    std::set<int> seen;
    for (int step = 0; step < head_dim / 16; ++step)
      for (int k = 0; k < 16; ++k) seen.insert(dimension(step, k));
    REQUIRE(int(seen.size()) == head_dim);
    REQUIRE(*seen.begin() == 0);
    REQUIRE(*seen.rbegin() == head_dim - 1);
  }
}

TEST_CASE("row tile: a lane's chunk holds the dimensions of its slots, four for each of two steps") {
  for (int step = 0; step < 16; ++step)
    for (int lane = 0; lane < 32; ++lane)
      for (int k = 0; k < 16; ++k) {
        if (k % 8 / 2 != lane % 4) continue;  // slot k is another lane's
        const int first = 32 * (step / 2) + 8 * (lane % 4) + 4 * (step % 2);
        REQUIRE(dimension(step, k) == first + 2 * (k / 8) + k % 2);
      }
}

TEST_CASE("row tile: eight lanes that read shared memory together use every bank once") {
  for (const int head_dim : head_dims) {
    REQUIRE(row_bytes(head_dim) % 16 == 0);
    REQUIRE(row_bytes(head_dim) >= 2 * head_dim);
    for (int c = 0; c < head_dim / 32; ++c)
      for (int first = 0; first < 32; first += 8) {
        std::set<int> banks;
        for (int lane = first; lane < first + 8; ++lane)
          for (int word = 0; word < 4; ++word)
            banks.insert((chunk_byte(head_dim, lane / 4, lane, c) / 4 + word) % 32);
        REQUIRE(banks.size() == 32);
      }
  }
}

TEST_CASE("row tile: the chunks of a row lie within it and are its bytes in order") {
  for (const int head_dim : head_dims)
    for (int row = 0; row < tile_rows; ++row)
      for (int lane = 0; lane < 32; ++lane)
        for (int c = 0; c < head_dim / 32; ++c)
          REQUIRE(chunk_byte(head_dim, row, lane, c) ==
                  row * row_bytes(head_dim) + 2 * (32 * c + 8 * (lane % 4)));
}

TEST_CASE("row tile: the results of a warp are all rows and columns of the tile") {
  std::set<int> seen;
  for (int lane = 0; lane < 32; ++lane)
    for (int e = 0; e < 4; ++e) seen.insert(8 * result_row(lane, e) + result_column(lane, e));
  REQUIRE(seen.size() == 128);
  REQUIRE(*seen.rbegin() == 127);
}

TEST_CASE("row tile: the scale brings a largest value between 1 and 2, and is undone exactly") {
  for (const float x : {1e-30f, 3e-12f, 0.75f, 1.0f, 1.99f, 7e20f}) {
    const int e = scale_exponent(std::bit_cast<unsigned>(x));
    const float scale = std::bit_cast<float>(power_bits(e)), unscale = std::bit_cast<float>(power_bits(-e));
    REQUIRE(scale == std::ldexp(1.0f, e));
    REQUIRE(scale * unscale == 1);
    REQUIRE(x * scale >= 1);
    REQUIRE(x * scale < 2);
  }
  for (const float x : {0.0f, INFINITY, NAN}) REQUIRE(scale_exponent(std::bit_cast<unsigned>(x)) == 0);
  REQUIRE(scale_exponent(std::bit_cast<unsigned>(1e-44f)) == 100);
  REQUIRE(scale_exponent(std::bit_cast<unsigned>(3e38f)) == -100);
}

// A struct of parameters whose pointers are not null, and not read.
template <class Params>
Params plausible() {
  static float any[4] __attribute__((aligned(16)));
  Params p;
  p.n_rows = 5, p.n_heads = 14, p.n_kv_heads = 2, p.head_dim = 64, p.n_keys = 100, p.scale = 0.125f;
  p.q = p.keys = any, p.lse = any, p.out_pages = 7, p.mass = any;
  static const int32_t position[5] = {};
  p.position = position;
  if constexpr (std::is_same_v<Params, record_scores::Params>) {
    p.score = any, p.key_token_stride = 128, p.key_head_stride = 64;
  } else {
    p.values = any, p.gradient = any, p.value = any, p.token_stride = 128, p.head_stride = 64;
  }
  return p;
}

template <class Params, class Change>
bool refused(const char* field, Change change) {
  Params p = plausible<Params>();
  change(p);
  try {
    check(p);
  } catch (const Error& e) {
    INFO(e.what());
    return e.status() == Status::bad_input && std::string(e.what()).find(field) != std::string::npos;
  }
  return false;
}

TEST_CASE("record scores: bad parameters are refused with the field's name") {
  using P = record_scores::Params;
  REQUIRE_NOTHROW(check(plausible<P>()));
  CHECK(refused<P>("n_heads", [](P& p) { p.n_heads = 13; }));
  CHECK(refused<P>("head_dim is 80", [](P& p) { p.head_dim = 80; }));
  CHECK(refused<P>("n_keys", [](P& p) { p.n_keys = 0; }));
  CHECK(refused<P>("out_pages is 6", [](P& p) { p.out_pages = 6; }));
  CHECK(refused<P>("scale", [](P& p) { p.scale = NAN; }));
  CHECK(refused<P>("keys", [](P& p) { p.keys = static_cast<const char*>(p.keys) + 2; }));
  CHECK(refused<P>("key_token_stride", [](P& p) { p.key_token_stride = 0; }));
  CHECK(refused<P>("key_head_stride", [](P& p) { p.key_head_stride = 68; }));
  CHECK(refused<P>("lse", [](P& p) { p.lse = nullptr; }));
  CHECK(refused<P>("position", [](P& p) { p.position = nullptr; }));
  CHECK(refused<P>("score", [](P& p) { p.score = nullptr; }));
}

TEST_CASE("record values: bad parameters are refused with the field's name") {
  using P = record_values::Params;
  REQUIRE_NOTHROW(check(plausible<P>()));
  CHECK(refused<P>("n_gradients", [](P& p) { p.n_gradients = 0; }));
  CHECK(refused<P>("head_dim is 32", [](P& p) { p.head_dim = 32; }));
  CHECK(refused<P>("values", [](P& p) { p.values = nullptr; }));
  CHECK(refused<P>("gradient", [](P& p) { p.gradient += 1; }));
  CHECK(refused<P>("token_stride", [](P& p) { p.token_stride = 100; }));
  CHECK(refused<P>("value", [](P& p) { p.value = nullptr; }));
}

}  // namespace
}  // namespace deltacal::kernels::cuda::row_tile
