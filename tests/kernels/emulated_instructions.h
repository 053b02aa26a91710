// kernels/row_tile/instructions.cuh, kernels/cuda/{device, mma}.cuh and what the kernels use of CUDA's language, on a CPU. Fragments are laid out as the
// PTX manual says of mma.m16n8k16 (16-bit types), written down here a second time on purpose. Included before a kernel's
// kernel.cuh, after everything else.
#pragma once
#define DELTACAL_ROW_TILE_INSTRUCTIONS  // the file that this one stands for is not read
#pragma GCC diagnostic ignored "-Wunknown-pragmas"  // of loops to unroll
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <type_traits>

#include "emulated_block.h"
#include "kernels/cuda/paged.h"
#include "kernels/paged.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define threadIdx emulator::Dim(emulator::Block::now().thread(), 0, 0)
#define blockIdx emulator::block_index

namespace emulator {
inline Dim block_index;
inline bool reversed = false;  // the order of a block's threads
}  // namespace emulator

namespace deltacal::kernels::cuda {

using std::max, std::min, std::isfinite, std::fabs;
using dim3 = emulator::Dim;
struct uint4 {
  unsigned x, y, z, w;
};
struct float2 {
  float x, y;
};
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
template <class T>
T __ldg(const T* p) {
  if (reinterpret_cast<uintptr_t>(p) % sizeof(T) != 0) throw std::logic_error("emulator: a misaligned read");
  T x;
  std::memcpy(&x, p, sizeof x);
  return x;
}
inline void __syncthreads() { emulator::Block::now().sync_block(); }

template <class T>
T __shfl_xor_sync(unsigned, T x, int mask) {
  static_assert(sizeof(T) == 4);
  emulator::Block& block = emulator::Block::now();
  const int lane = block.thread() % 32;
  block.words(lane)[0] = std::bit_cast<unsigned>(x);
  block.sync_warp();
  const unsigned y = block.words(lane ^ mask)[0];
  block.sync_warp();
  return std::bit_cast<T>(y);
}

using bf16 = kernels::bf16;
using f16 = _Float16;
constexpr unsigned all_lanes = 0xffffffffu;
constexpr float log2_e = 1.4426950408889634f;

template <class T>
unsigned bits_of(float x) {
  if constexpr (std::is_same_v<T, bf16>) return to_bf16(x).bits;
  else return std::bit_cast<uint16_t>(f16(x));
}
template <class T>
float number_of(unsigned bits) {
  if constexpr (std::is_same_v<T, bf16>) return to_float(bf16{uint16_t(bits)});
  else return float(std::bit_cast<f16>(uint16_t(bits)));
}
template <class T>
unsigned pack(float first, float second) {
  return bits_of<T>(first) | bits_of<T>(second) << 16;
}
template <class T>
float2 unpack(unsigned packed) {
  return {number_of<T>(packed & 0xffff), number_of<T>(packed >> 16)};
}

template <int width>
float lanes_sum(float x) {
  for (int offset = width / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(all_lanes, x, offset);
  return x;
}
inline void wait_for_previous() {}

template <class T>
void mma(float (&c)[4], const unsigned (&rows)[4], unsigned b0, unsigned b1) {
  emulator::Block& block = emulator::Block::now();
  const int lane = block.thread() % 32;
  const unsigned mine[6] = {rows[0], rows[1], rows[2], rows[3], b0, b1};
  std::copy_n(mine, 6, block.words(lane));
  block.sync_warp();
  for (int e = 0; e < 4; ++e) {
    const int row = lane / 4 + (e >= 2 ? 8 : 0), column = lane % 4 * 2 + (e & 1);
    double sum = c[e];
    for (int k = 0; k < 16; ++k) {
      // a: register (row >= 8) + 2 (k >= 8) of lane 4 (row % 8) + k % 8 / 2; b: register (k >= 8) of lane 4 column + k % 8 / 2
      const unsigned a = block.words(row % 8 * 4 + k % 8 / 2)[(row >= 8 ? 1 : 0) + (k >= 8 ? 2 : 0)];
      const unsigned b = block.words(column * 4 + k % 8 / 2)[4 + (k >= 8 ? 1 : 0)];
      sum += double(number_of<T>(a >> k % 2 * 16 & 0xffff)) * number_of<T>(b >> k % 2 * 16 & 0xffff);
    }
    c[e] = float(sum);
  }
  block.sync_warp();
}

inline float exp2_fast(float x) {
  const float y = std::exp2(x);
  return y < 0x1p-126f ? 0 : y;
}
inline float max_nan(float a, float b) {
  return std::isnan(a) || std::isnan(b) ? std::numeric_limits<float>::quiet_NaN() : std::max(a, b);
}

namespace row_tile {

// Copied when the thread waits for it, not before.
inline void copy_or_clear(void* to, const void* from, bool there) {
  if (reinterpret_cast<uintptr_t>(to) % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0)
    throw std::logic_error("emulator: a misaligned copy");
  emulator::Block::now().pending().push_back([=] {
    there ? (void)std::memcpy(to, from, 16) : (void)std::memset(to, 0, 16);
  });
}
inline void copies_done() {
  for (const auto& copy : emulator::Block::now().pending()) copy();
  emulator::Block::now().pending().clear();
}

}  // namespace row_tile

// kernel<<<grid, threads>>>(p)
template <class P>
void emulate(void (*kernel)(P), dim3 grid, int threads, const P& p) {
  for (int z = 0; z < grid.z; ++z)
    for (int y = 0; y < grid.y; ++y)
      for (int x = 0; x < grid.x; ++x) {
        emulator::block_index = dim3(x, y, z);
        emulator::Block::run(threads, emulator::reversed, [&] { kernel(p); });
      }
}

}  // namespace deltacal::kernels::cuda
