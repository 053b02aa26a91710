// kernels/cuda/mma.cuh for the emulator. Fragments are laid out as the PTX manual says of mma.m16n8k16
// (16-bit types) and ldmatrix, written down here a second time on purpose.
#pragma once
#include "kernels/cuda/device.cuh"

namespace deltacal::kernels::cuda {

template <class T>
void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const uint32_t in[6] = {a[0], a[1], a[2], a[3], b0, b1};
  emulator::Block& block = emulator::Block::now();
  const emulator::Lanes& lanes = block.meet(all_lanes, in, 6, [](emulator::Lanes& l, uint32_t) {
    float left[16][16], right[16][8];
    for (int lane = 0; lane < 32; ++lane)
      for (int half = 0; half < 2; ++half) {
        const int r = lane / 4, k = lane % 4 * 2 + half;
        const auto number = [&](int word) { return number_of<T>(l.in[lane][word] >> 16 * half & 0xffff); };
        left[r][k] = number(0), left[r + 8][k] = number(1), left[r][k + 8] = number(2),
        left[r + 8][k + 8] = number(3);
        right[k][r] = number(4), right[k + 8][r] = number(5);
      }
    for (int lane = 0; lane < 32; ++lane)
      for (int e = 0; e < 4; ++e) {
        double sum = 0;
        for (int k = 0; k < 16; ++k)
          sum += double(left[lane / 4 + (e >= 2 ? 8 : 0)][k]) * double(right[k][lane % 4 * 2 + e % 2]);
        l.out[lane][e] = std::bit_cast<uint32_t>(float(sum));
      }
  });
  for (int e = 0; e < 4; ++e) d[e] += std::bit_cast<float>(lanes.out[block.lane()][e]);
}

inline uint32_t shared_address(const void* pointer) {
  return emulator::shared_address(pointer);
}

// Row `row` of matrix m, from the address that lane 8 m + row gave.
inline const uint16_t* matrix_row(const emulator::Lanes& l, int m, int row) {
  const uint32_t address = l.in[8 * m + row][0];
  if (address % 16 != 0) throw std::logic_error("emulator: a misaligned row of a matrix");
  return static_cast<const uint16_t*>(emulator::shared_pointer(address));
}
inline void load_matrices(uint32_t (&to)[4], uint32_t address) {
  emulator::Block& block = emulator::Block::now();
  const emulator::Lanes& lanes = block.meet(all_lanes, &address, 1, [](emulator::Lanes& l, uint32_t) {
    for (int lane = 0; lane < 32; ++lane)
      for (int m = 0; m < 4; ++m) std::memcpy(&l.out[lane][m], matrix_row(l, m, lane / 4) + lane % 4 * 2, 4);
  });
  std::copy_n(lanes.out[block.lane()], 4, to);
}
inline void load_matrices_transposed(uint32_t (&to)[4], uint32_t address) {
  emulator::Block& block = emulator::Block::now();
  const emulator::Lanes& lanes = block.meet(all_lanes, &address, 1, [](emulator::Lanes& l, uint32_t) {
    for (int lane = 0; lane < 32; ++lane)
      for (int m = 0; m < 4; ++m)
        l.out[lane][m] = matrix_row(l, m, lane % 4 * 2)[lane / 4] |
                         uint32_t(matrix_row(l, m, lane % 4 * 2 + 1)[lane / 4]) << 16;
  });
  std::copy_n(lanes.out[block.lane()], 4, to);
}

}  // namespace deltacal::kernels::cuda
