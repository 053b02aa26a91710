// Chunks filtered by us against those that HDF5 filters itself.
#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <random>

#include "made.h"
#include "trace/chunk_queue.h"
#include "trace/filters.h"

using namespace deltacal;
using namespace deltacal::trace;
using namespace deltacal::trace::testing;

namespace {

std::vector<std::byte> stored(hid_t dataset, const h5::Shape& offset) {
  hsize_t size = 0;
  REQUIRE(H5Dget_chunk_storage_size(dataset, offset.data(), &size) >= 0);
  std::vector<std::byte> bytes(size);
  uint32_t left_out = 1;
  REQUIRE(H5Dread_chunk(dataset, H5P_DEFAULT, offset.data(), &left_out, bytes.data()) >= 0);
  CHECK(left_out == 0);
  return bytes;
}

// Numbers that deflate well, hardly and not at all.
template <class T>
std::vector<T> numbers(int kind, size_t n) {
  std::mt19937_64 random(7);
  std::vector<T> x(n);
  for (size_t i = 0; i < n; ++i) {
    const uint64_t bits = kind == 0 ? 0 : kind == 1 ? i / 3 : random();
    std::memcpy(&x[i], &bits, sizeof(T));
  }
  return x;
}

template <class T>
void require_same_bytes(h5::Type type) {
  const Folder folder;
  h5::Output file(folder / "t.h5");
  const h5::Shape shape{2, 40, 377}, chunk{1, 19, 377};
  for (int kind = 0; kind < 3; ++kind) {
    CAPTURE(kind);
    const std::vector<T> data = numbers<T>(kind, 19 * 377);
    h5::Dataset by_hdf5 = h5::Dataset::create(file.get(), "a" + std::to_string(kind), type, shape, chunk),
                by_us = h5::Dataset::create(file.get(), "b" + std::to_string(kind), type, shape, chunk);
    by_hdf5.write({1, 19, 0}, chunk, data.data());
    REQUIRE(H5Dflush(by_hdf5.get()) >= 0);
    by_us.write_filtered({1, 19, 0}, filtered(std::as_bytes(std::span(data)), sizeof(T)));
    CHECK(stored(by_us.get(), {1, 19, 0}) == stored(by_hdf5.get(), {1, 19, 0}));
    std::vector<T> back(data.size());
    by_us.read({1, 19, 0}, chunk, back.data());
    CHECK(std::memcmp(back.data(), data.data(), data.size() * sizeof(T)) == 0);
  }
}

}  // namespace

TEST_CASE("trace: chunks filtered here are HDF5's own, byte for byte") {
  require_same_bytes<float>(h5::Type::f32);
  require_same_bytes<uint16_t>(h5::Type::f16);
}

TEST_CASE("trace: chunks on their way arrive, more of them than there are cores, and in order") {
  const Folder folder;
  h5::Output file(folder / "t.h5");
  constexpr int n = 100, row = 1000;
  h5::Dataset data = h5::Dataset::create(file.get(), "x", h5::Type::i32, {1, n, row}, {1, 1, row});
  ChunkQueue queue;
  for (int i = 0; i < n; ++i) {
    const std::vector<int32_t> values(row, i);
    const auto bytes = std::as_bytes(std::span(values));
    queue.write(data, {0, hsize_t(i), 0}, {bytes.begin(), bytes.end()}, sizeof(int32_t));
  }
  queue.finish(data);
  std::vector<int32_t> back(n * row);
  data.read({0, 0, 0}, {1, n, row}, back.data());
  int wrong = 0;
  for (int i = 0; i < n * row; ++i) wrong += back[size_t(i)] != i / row;
  CHECK(wrong == 0);
}

TEST_CASE("trace: what fails while a chunk is written is told by the call after it, and nothing hangs") {
  const Folder folder;
  h5::Output file(folder / "t.h5");
  h5::Dataset data = h5::Dataset::create(file.get(), "x", h5::Type::i32, {1, 2, 8}, {1, 1, 8});
  ChunkQueue queue;
  queue.write(data, {0, 1, 3}, std::vector<std::byte>(32), 4);  // no chunk begins there
  CHECK_THROWS_AS(queue.finish(data), h5::Fault);
  queue.finish(data);
  {
    ChunkQueue dropped;
    dropped.write(data, {0, 0, 0}, std::vector<std::byte>(1 << 20), 4);
  }
}
