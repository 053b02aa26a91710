// CUDA on a CPU, thread by thread: what the kernels for decoding use of the language and its library, so that
// their tests run where no device is. Every thread of a block is a fiber; barriers and what lanes exchange
// are met by switching among them, warps in an order that varies. Blocks run one after the other. Not checked
// here: the machine's own rules (memory order between blocks, the asynchronous proxy's fences), and time.
#pragma once
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <vector_functions.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

// After the headers above, which know of no emulator: the kernels' code for this architecture.
#define __CUDA_ARCH__ (100 * EMULATED_MAJOR)

#undef __global__
#undef __device__
#undef __host__
#undef __forceinline__
#undef __launch_bounds__
#undef __shared__
#undef __grid_constant__
#undef __align__
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define __grid_constant__
#define __align__(n) alignas(n)
#define DELTACAL_DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(emulator::shared_memory())

// Of the thread that runs.
extern uint3 threadIdx, blockIdx;
extern dim3 gridDim;

namespace emulator {

[[noreturn]] void fail(const char* what);  // ends the process, saying which thread
void yield();                              // lets others run
void meet_lanes(unsigned mask);            // the lanes of the warp that `mask` names
void meet_block();
char* shared_memory();  // of the block
int lane();

// What the lanes of a warp show one another: eight words each, for two exchanges that may overlap.
uint64_t* words();
uint64_t* other_words();

// Copies made when they are waited for instead of at once: either may show a missing wait.
extern bool deferred_copies;

// A launch: done at once, or kept while a stream is captured.
void launch(dim3 grid, int block, size_t shared, const std::function<void()>& kernel);

template <class T>
uint64_t to_word(T x) {
  uint64_t word = 0;
  std::memcpy(&word, &x, sizeof x);
  return word;
}
template <class T>
T from_word(uint64_t word) {
  T x;
  std::memcpy(&x, &word, sizeof x);
  return x;
}
// x of lane `from`.
template <class T>
T exchange(unsigned mask, T x, int from) {
  words()[lane()] = to_word(x);
  meet_lanes(mask);
  const T y = from_word<T>(words()[from]);
  meet_lanes(mask);
  return y;
}
// The lanes of the mask of which is(word of the lane) holds.
template <class T, class Is>
unsigned lanes_where(uint64_t* shown, unsigned mask, T x, const Is& is) {
  shown[lane()] = to_word(x);
  meet_lanes(mask);
  unsigned lanes = 0;
  for (int i = 0; i < 32; ++i)
    if ((mask >> i & 1) && is(from_word<T>(shown[i]))) lanes |= 1u << i;
  meet_lanes(mask);
  return lanes;
}
template <class Op>
int reduce(unsigned mask, int x, const Op& op) {
  words()[lane()] = to_word(x);
  meet_lanes(mask);
  int y = from_word<int>(words()[0]);
  for (int i = 1; i < 32; ++i) y = op(y, from_word<int>(words()[i]));
  meet_lanes(mask);
  return y;
}

}  // namespace emulator

inline void __syncthreads() {
  emulator::meet_block();
}
inline void __syncwarp() {
  emulator::meet_lanes(~0u);
}
inline void __threadfence() {}
template <class T>
T __shfl_sync(unsigned mask, T x, int from) {
  return emulator::exchange(mask, x, from & 31);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T x, int with) {
  return emulator::exchange(mask, x, emulator::lane() ^ with);
}
template <class T>
T __shfl_up_sync(unsigned mask, T x, int by) {
  return emulator::exchange(mask, x, emulator::lane() >= by ? emulator::lane() - by : emulator::lane());
}
inline unsigned __ballot_sync(unsigned mask, bool x) {
  return emulator::lanes_where(emulator::words(), mask, x, [](bool y) { return y; });
}
inline bool __any_sync(unsigned mask, bool x) {
  return __ballot_sync(mask, x) != 0;
}
inline unsigned __match_any_sync(unsigned mask, int x) {
  return emulator::lanes_where(emulator::other_words(), mask, x, [x](int y) { return y == x; });
}
inline int __reduce_add_sync(unsigned mask, int x) {
  return emulator::reduce(mask, x, [](int a, int b) { return a + b; });
}
inline int __reduce_max_sync(unsigned mask, int x) {
  return emulator::reduce(mask, x, [](int a, int b) { return std::max(a, b); });
}
inline int atomicAdd(int* to, int x) {
  const int before = *to;
  *to += x;
  return before;
}
inline int __ffs(int x) {
  return __builtin_ffs(x);
}
inline int __popc(unsigned x) {
  return __builtin_popcount(x);
}
inline double __dmul_rn(double a, double b) {
  return a * b;
}
inline double __dsub_rn(double a, double b) {
  return a - b;
}
template <class T>
T __ldcg(const T* from) {
  if (reinterpret_cast<uintptr_t>(from) % alignof(T) != 0) emulator::fail("a misaligned read");
  return *from;
}
template <class T>
T __ldcs(const T* from) {
  return __ldcg(from);
}
inline void sincospif(float x, float* sine, float* cosine) {
  *sine = float(std::sin(M_PI * double(x))), *cosine = float(std::cos(M_PI * double(x)));
}
namespace deltacal::kernels::cuda {
using std::max, std::min;
}
