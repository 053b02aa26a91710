// kernels/cuda/wgmma.cuh for the emulator, from the PTX manual: every lane makes its own sums, when it waits
// for them (or at once: Order). Where lanes must come together they meet.
#pragma once
#include "kernels/cuda/matrix_descriptor.h"
#include "kernels/cuda/mma.cuh"

namespace deltacal::kernels::cuda {

inline void begin_products() {
  __syncwarp();
}
template <int n>
void keep_sums(float (&)[n][4]) {}
inline void commit_products() {
  emulator::Block::now().close_group();
}
template <int pending>
void wait_products() {
  emulator::Block::now().wait_groups(pending);
  __syncwarp();
}

// Number k of row `row` of an operand.
template <class T>
float operand_number(uint64_t descriptor, int row, int k) {
  const uint32_t start = uint32_t(descriptor & 0x3fff) << 4, group = uint32_t(descriptor >> 32 & 0x3fff) << 4;
  if (descriptor >> 62 != 1 || (descriptor >> 49 & 7) != 0)
    throw std::logic_error("emulator: a layout of an operand other than the 128-byte swizzle");
  uint32_t address = start + uint32_t(row / 8) * group + uint32_t(row % 8) * 128 + uint32_t(k) * 2;
  address ^= (address >> 7 & 7) << 4;
  if (address >= emulator::max_dynamic_shared)
    throw std::logic_error("emulator: an operand past shared memory");
  uint16_t bits;
  std::memcpy(&bits, emulator::dynamic_shared() + address, 2);
  return number_of<T>(bits);
}

template <class T, int n>
void multiply_async(float (&d)[n][4], uint64_t a, uint64_t b, bool add) {
  emulator::Block& block = emulator::Block::now();
  const int row = block.thread() / 32 % 4 * 16 + block.lane() / 4, column = block.lane() % 4 * 2;
  block.copy([=, &d] {
    float left[2][16];
    for (int half = 0; half < 2; ++half)
      for (int k = 0; k < 16; ++k) left[half][k] = operand_number<T>(a, row + 8 * half, k);
    for (int i = 0; i < n; ++i)
      for (int c = 0; c < 2; ++c) {
        double sum[2] = {0, 0};
        for (int k = 0; k < 16; ++k) {
          const double right = double(operand_number<T>(b, 8 * i + column + c, k));
          sum[0] += double(left[0][k]) * right, sum[1] += double(left[1][k]) * right;
        }
        for (int half = 0; half < 2; ++half) {
          float& to = d[i][2 * half + c];
          to = float(sum[half]) + (add ? to : 0);
        }
      }
  });
}

}  // namespace deltacal::kernels::cuda
