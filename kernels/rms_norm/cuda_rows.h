// What the norm and its backward have in common: a block a row.
#pragma once
#include "kernels/cuda/launch.h"

namespace deltacal::kernels::cuda::rms_norm {

constexpr int max_row = 16384, max_threads = 1024;  // numbers of a row; threads of a block

// A thread holds up to `quads` quads of the row's numbers in registers: 1, 2 or 4.
struct RowBlock {
  int quads, threads;

  // At most 512 threads up to rows of 8192: a barrier of fewer warps, and several rows an SM.
  constexpr explicit RowBlock(int n)
      : quads(n <= 1024   ? 1
              : n <= 4096 ? 2
                          : 4),
        threads(divide_up(divide_up(n / 4, quads), 32) * 32) {}
};
static_assert(RowBlock(max_row).threads <= max_threads);

inline void check_rows(const char* kernel, int n, float epsilon, Type type) {
  require(n >= 8 && n <= max_row && n % 8 == 0, kernel, "n", n,
          "a multiple of 8, 8 to " + std::to_string(max_row));
  require(epsilon >= 0, kernel, "epsilon", std::to_string(epsilon), "at least 0");
  require_type(kernel, "type", type);
}

}  // namespace deltacal::kernels::cuda::rms_norm
