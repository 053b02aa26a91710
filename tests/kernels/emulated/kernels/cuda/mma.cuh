// Stands for kernels/cuda/mma.cuh: fragments as the PTX manual lays them out.
#pragma once
#include "kernels/cuda/device.cuh"

namespace deltacal::kernels::cuda {

template <class T>
void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  uint64_t* own = emulator::other_words() + emulator::lane() * 8;
  for (int i = 0; i < 4; ++i) own[i] = a[i];
  own[4] = b0, own[5] = b1;
  emulator::meet_lanes(all_lanes);
  const auto element = [](int lane, int word, int half) {
    return double(to_float(T{uint16_t(emulator::other_words()[lane * 8 + word] >> (16 * half))}));
  };
  for (int i = 0; i < 4; ++i) {
    const int row = emulator::lane() / 4 + 8 * (i / 2), column = 2 * (emulator::lane() % 4) + i % 2;
    double sum = d[i];
    for (int k = 0; k < 16; ++k) {
      const int upper = k >= 8, of_quad = k % 8 / 2;
      sum += element(row % 8 * 4 + of_quad, (row >= 8) + 2 * upper, k % 2) *
             element(column * 4 + of_quad, 4 + upper, k % 2);
    }
    d[i] = float(sum);
  }
  emulator::meet_lanes(all_lanes);
}

inline uint32_t shared_address(const void* pointer) {
  return uint32_t(static_cast<const char*>(pointer) - emulator::shared_memory());
}

template <bool transposed>
void load_any(uint32_t (&to)[4], uint32_t address) {
  if (address % 16 != 0) emulator::fail("ldmatrix of a misaligned row");
  emulator::words()[emulator::lane()] = address;
  emulator::meet_lanes(all_lanes);
  const auto element = [](int matrix, int row, int column) {
    uint16_t x;
    std::memcpy(&x, emulator::shared_memory() + emulator::words()[8 * matrix + row] + 2 * column, 2);
    return uint32_t(x);
  };
  const int r = emulator::lane() / 4, c = emulator::lane() % 4;
  for (int m = 0; m < 4; ++m)
    to[m] = transposed ? element(m, 2 * c, r) | element(m, 2 * c + 1, r) << 16
                       : element(m, r, 2 * c) | element(m, r, 2 * c + 1) << 16;
  emulator::meet_lanes(all_lanes);
}
inline void load_matrices(uint32_t (&to)[4], uint32_t address) {
  load_any<false>(to, address);
}
inline void load_matrices_transposed(uint32_t (&to)[4], uint32_t address) {
  load_any<true>(to, address);
}

}  // namespace deltacal::kernels::cuda
