// How wgmma is told where an operand lies in shared memory (PTX ISA, "Matrix descriptor"). Arithmetic alone.
#pragma once
#include "kernels/cuda/paged.h"

namespace deltacal::kernels::cuda {

// Of rows of 64 16-bit numbers along k, 128 bytes each, as copy_box leaves them: groups of eight rows, 1024
// bytes, follow each other, and begin at multiples of 1024. `address` is that of the first row. In words of
// 16 bytes: bits 0-13 address, 16-29 unused in this layout, 32-45 from group to group; bits 62-63: 128-byte
// swizzle.
DELTACAL_HOST_DEVICE constexpr uint64_t matrix_descriptor(uint32_t address) {
  return uint64_t((address & 0x3ffff) >> 4) | uint64_t(1) << 16 | uint64_t(1024 >> 4) << 32 |
         uint64_t(1) << 62;
}
// The same rows from `columns` on, a multiple of 16: the hardware swizzles addresses, not columns.
DELTACAL_HOST_DEVICE constexpr uint64_t from_column(uint64_t descriptor, int columns) {
  return descriptor + uint64_t(columns * 2 >> 4);
}

}  // namespace deltacal::kernels::cuda
