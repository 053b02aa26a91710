// What kernels use of CUDA's language: vectors, built-in variables, instructions of a warp. Only the
// functions that our kernels call; each as CUDA's programming guide says.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "block.h"

#ifndef EMULATED_ARCH
#define EMULATED_ARCH 900
#endif
#define __CUDA_ARCH__ EMULATED_ARCH
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __maxnreg__(...)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned nx = 1, unsigned ny = 1, unsigned nz = 1) : x(nx), y(ny), z(nz) {}
};
namespace emulator {
struct Language {
  dim3 grid, block, block_index;
};
inline Language language;
// Blocks of a cluster are neighbours in x.
inline dim3 block_index() {
  dim3 index = language.block_index;
  index.x += unsigned(Block::now().rank());
  return index;
}
}  // namespace emulator
#define threadIdx dim3(unsigned(emulator::Block::now().thread()), 0, 0)
#define blockIdx emulator::block_index()
#define gridDim emulator::language.grid
#define blockDim emulator::language.block

struct alignas(8) int2 {
  int x, y;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline int2 make_int2(int x, int y) {
  return {x, y};
}
inline uint2 make_uint2(unsigned x, unsigned y) {
  return {x, y};
}
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
  return {x, y, z, w};
}
inline float2 make_float2(float x, float y) {
  return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}

using std::isfinite, std::max, std::min;

inline float __uint_as_float(unsigned x) {
  return std::bit_cast<float>(x);
}
inline float __int_as_float(int x) {
  return std::bit_cast<float>(x);
}
inline unsigned __float_as_uint(float x) {
  return std::bit_cast<unsigned>(x);
}
inline float __fdividef(float a, float b) {
  return std::abs(b) > 0x1p126f && std::isfinite(a) ? 0 : a / b;
}
inline double __dmul_rn(double a, double b) {
  return a * b;
}
inline double __dsub_rn(double a, double b) {
  return a - b;
}
// Byte i of the result is the one, of the eight of x and y, that half-byte i of the selector names.
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const uint64_t both = uint64_t(y) << 32 | x;
  unsigned bytes = 0;
  for (unsigned i = 0; i < 4; ++i) bytes |= unsigned(both >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
  return bytes;
}
inline int __popc(unsigned x) {
  return std::popcount(x);
}
inline int __ffs(int x) {
  return __builtin_ffs(x);
}
inline void sincospif(float x, float* s, float* c) {
  *s = float(std::sin(3.14159265358979323846 * double(x))),
  *c = float(std::cos(3.14159265358979323846 * double(x)));
}

template <class T>
T emulated_load(const T* p) {
  if (reinterpret_cast<uintptr_t>(p) % sizeof(T) != 0) throw std::logic_error("emulator: a misaligned read");
  return *p;
}
template <class T>
T __ldg(const T* p) {
  return emulated_load(p);
}
template <class T>
T __ldcg(const T* p) {
  return emulated_load(p);
}
template <class T>
T __ldcs(const T* p) {
  return emulated_load(p);
}

inline int atomicAdd(int* p, int x) {
  const int before = *p;
  *p += x;
  return before;
}
inline void __threadfence() {}
inline void __syncthreads() {
  emulator::Block::now().sync_block();
}
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  emulator::Block::now().meet(mask, nullptr, 0, nullptr);
}

// Each lane brings a word and names the lane whose word it wants.
template <class T>
T emulated_shuffle(unsigned mask, T x, int source) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  uint32_t in[3] = {0, 0, uint32_t(source)};
  std::memcpy(in, &x, sizeof x);
  emulator::Block& block = emulator::Block::now();
  const emulator::Lanes& lanes = block.meet(mask, in, 3, [](emulator::Lanes& l, uint32_t here) {
    for (int i = 0; i < 32; ++i)
      if (here >> i & 1) std::copy_n(l.in[l.in[i][2]], 2, l.out[i]);
  });
  T y;
  std::memcpy(&y, lanes.out[block.lane()], sizeof y);
  return y;
}
template <class T>
T __shfl_sync(unsigned mask, T x, int source) {
  return emulated_shuffle(mask, x, source & 31);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T x, int bits) {
  return emulated_shuffle(mask, x, emulator::Block::now().lane() ^ bits);
}
template <class T>
T __shfl_up_sync(unsigned mask, T x, int by) {
  const int lane = emulator::Block::now().lane();
  return emulated_shuffle(mask, x, lane >= by ? lane - by : lane);
}

// One result for all lanes of the mask, from a word of each.
template <class Combine>
uint32_t emulated_vote(unsigned mask, uint32_t x, Combine) {
  emulator::Block& block = emulator::Block::now();
  return block
      .meet(mask, &x, 1,
            [](emulator::Lanes& l, uint32_t here) {
              uint32_t result = 0;
              bool first = true;
              for (int i = 0; i < 32; ++i)
                if (here >> i & 1)
                  result = first ? Combine::one(l.in[i][0], i)
                                 : Combine::both(result, Combine::one(l.in[i][0], i)),
                  first = false;
              for (int i = 0; i < 32; ++i) l.out[i][0] = result;
            })
      .out[block.lane()][0];
}
struct EmulatedBits {
  static uint32_t one(uint32_t x, int lane) { return x ? 1u << lane : 0; }
  static uint32_t both(uint32_t a, uint32_t b) { return a | b; }
};
struct EmulatedSum {
  static uint32_t one(uint32_t x, int) { return x; }
  static uint32_t both(uint32_t a, uint32_t b) { return a + b; }
};
struct EmulatedMin {
  static uint32_t one(uint32_t x, int) { return x; }
  static uint32_t both(uint32_t a, uint32_t b) { return std::min(a, b); }
};
struct EmulatedMax {
  static uint32_t one(uint32_t x, int) { return x; }
  static uint32_t both(uint32_t a, uint32_t b) { return uint32_t(std::max(int(a), int(b))); }
};
inline unsigned __ballot_sync(unsigned mask, bool x) {
  return emulated_vote(mask, x, EmulatedBits());
}
inline bool __any_sync(unsigned mask, bool x) {
  return emulated_vote(mask, x, EmulatedBits()) != 0;
}
inline int __reduce_add_sync(unsigned mask, int x) {
  return int(emulated_vote(mask, uint32_t(x), EmulatedSum()));
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned x) {
  return emulated_vote(mask, x, EmulatedMin());
}
inline int __reduce_max_sync(unsigned mask, int x) {
  return int(emulated_vote(mask, uint32_t(x), EmulatedMax()));
}
inline unsigned __match_any_sync(unsigned mask, int x) {
  emulator::Block& block = emulator::Block::now();
  const uint32_t in = uint32_t(x);
  return block
      .meet(mask, &in, 1,
            [](emulator::Lanes& l, uint32_t here) {
              for (int i = 0; i < 32; ++i) {
                l.out[i][0] = 0;
                for (int j = 0; j < 32; ++j)
                  if ((here >> j & 1) && l.in[j][0] == l.in[i][0]) l.out[i][0] |= 1u << j;
              }
            })
      .out[block.lane()][0];
}

// 16-bit numbers.
struct __nv_bfloat16 {
  uint16_t bits;
};
struct __half_raw {
  uint16_t x;
};
struct __half {
  uint16_t bits;
  __half() = default;
  __half(__half_raw raw) : bits(raw.x) {}
  operator __half_raw() const { return {bits}; }
};
inline float __bfloat162float(__nv_bfloat16 x) {
  return std::bit_cast<float>(uint32_t(x.bits) << 16);
}
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if (std::isnan(x)) return {0x7fff};
  return {uint16_t((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}
inline float __half2float(__half x) {
  return float(std::bit_cast<_Float16>(x.bits));
}
inline __half __float2half_rn(float x) {
  return __half_raw{std::bit_cast<uint16_t>(_Float16(x))};
}
