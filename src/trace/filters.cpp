#include "trace/filters.h"

#include <zlib.h>

#include <algorithm>
#include <cstdint>

#include "core/error.h"

namespace deltacal::trace {
namespace {

// First bytes of all elements, then their second ones, ... (HDF5's H5Zshuffle.c).
std::vector<std::byte> shuffled(std::span<const std::byte> data, size_t element_bytes) {
  std::vector<std::byte> out(data.size());
  const size_t n = data.size() / element_bytes;
  for (size_t byte = 0; byte < element_bytes; ++byte)
    for (size_t i = 0; i < n; ++i) out[byte * n + i] = data[i * element_bytes + byte];
  return out;
}

// Of 16-bit words, the first byte the higher one (HDF5's H5checksum.c): sums modulo 65535, which after 360
// words still fit 32 bits.
uint32_t fletcher32(std::span<const std::byte> data) {
  uint32_t sum = 0, sum_of_sums = 0;
  const auto fold = [](uint32_t x) { return (x & 0xffff) + (x >> 16); };
  const auto byte = [&](size_t i) { return i < data.size() ? static_cast<uint32_t>(data[i]) : 0; };
  for (size_t first = 0; first < data.size(); first += 720) {
    const size_t end = std::min(data.size(), first + 720);
    for (size_t i = first; i < end; i += 2) {
      sum += byte(i) << 8 | byte(i + 1);
      sum_of_sums += sum;
    }
    sum = fold(sum);
    sum_of_sums = fold(sum_of_sums);
  }
  return fold(sum_of_sums) << 16 | fold(sum);
}

}  // namespace

std::vector<std::byte> filtered(std::span<const std::byte> data, size_t element_bytes) {
  const std::vector<std::byte> in = shuffled(data, element_bytes);
  uLongf size = ::compressBound(in.size());
  std::vector<std::byte> out(size + sizeof(uint32_t));
  if (::compress2(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(in.data()),
                  in.size(), 1) != Z_OK)
    throw failure("zlib could not compress {} bytes: no memory", in.size());
  out.resize(size);
  const uint32_t sum = fletcher32(out);
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<std::byte>(sum >> shift & 0xff));
  return out;
}

}  // namespace deltacal::trace
