// The order of pages as integers, and how the selection closes in on its last page: arithmetic alone, the
// same in the kernel and in its tests.
#pragma once
#include <cstdint>
#include <cstring>

#include "kernels/cuda/paged.h"

namespace deltacal::kernels::cuda::select_pages {

// A page's place in the ranking: larger keys first, then lower pages.
struct Ranked {
  uint64_t key;
  int32_t page;
};

// Key of S - b u: in double, product and difference rounded each, NaN as -infinity, both zeros alike.
inline DELTACAL_HOST_DEVICE uint64_t key_of(float score, double bias, int page) {
#ifdef __CUDA_ARCH__
  double value =
      __dsub_rn(double(score), __dmul_rn(bias, double(page)));  // no fused multiply-add: the order of the CPU
#else
  double value = double(score) - bias * double(page);
#endif
  if (value == 0) value = 0;
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (score != score) bits = 0xfff0000000000000u;
  return bits >> 63 ? ~bits : bits | 0x8000000000000000u;
}

inline DELTACAL_HOST_DEVICE bool ranks_before(const Ranked& a, const Ranked& b) {
  return a.key > b.key || (a.key == b.key && a.page < b.page);
}

// Equal keys, lower pages larger.
inline DELTACAL_HOST_DEVICE uint64_t tie_key(int page) {
  return uint64_t(0xffff - page);
}

// The chosen pages are those above an interval of keys and `need` of the `count` within it. Narrowed by a
// histogram over 1024 equal parts until few enough are left to rank one by one.
constexpr int n_bins = 1024, bin_bits = 10;
struct Interval {
  uint64_t low = 0;
  int width = 0;  // holds the keys low .. low + 2^width - 1
  int above = 0;  // keys above it
  int need = 0;   // of its keys, 1 <= need <= count
  int count = 0;

  DELTACAL_HOST_DEVICE bool holds(uint64_t key) const {
    return key >= low && (width >= 64 || (key - low) >> width == 0);
  }
  DELTACAL_HOST_DEVICE int shift() const { return width > bin_bits ? width - bin_bits : 0; }
  DELTACAL_HOST_DEVICE int bin(uint64_t key) const { return int((key - low) >> shift()); }
  // To one bin, with `more` keys in the bins above it.
  DELTACAL_HOST_DEVICE void narrow(int to_bin, int more, int in_bin) {
    low += uint64_t(to_bin) << shift();
    width = shift();
    above += more, need -= more, count = in_bin;
  }
};

// Of all keys between `least` and `most`.
inline DELTACAL_HOST_DEVICE Interval interval_of(uint64_t least, uint64_t most, int need, int count) {
  Interval all;
  all.low = least, all.need = need, all.count = count;
  for (uint64_t span = most - least; span != 0; span >>= 1) ++all.width;
  return all;
}

}  // namespace deltacal::kernels::cuda::select_pages
