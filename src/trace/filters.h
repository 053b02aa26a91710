// What HDF5 does to a chunk before it writes it, done by us: so that several threads can (HDF5 has one lock,
// or no threads at all), and the library only copies the result (H5Dwrite_chunk).
#pragma once
#include <cstddef>
#include <span>
#include <vector>

namespace deltacal::trace {

// The filters of Dataset::create in their order: bytes shuffled by their place in an element, deflated at
// level 1, and a Fletcher-32 checksum after them. The same bytes as HDF5's own. `data`: whole elements of
// `element_bytes`.
std::vector<std::byte> filtered(std::span<const std::byte> data, size_t element_bytes);

}  // namespace deltacal::trace
