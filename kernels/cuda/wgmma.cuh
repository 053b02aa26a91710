// Tensor cores by wgmma (PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions"): the four warps of a
// warpgroup, whose first is a multiple of four, multiply 64 rows in shared memory by up to 64 others there.
// The sums of warp w are mma's C fragments (mma.cuh) of rows 16 w .. 16 w + 15, one for eight of the others.
#pragma once
#include "kernels/cuda/matrix_descriptor.h"
#include "kernels/cuda/mma.cuh"

namespace deltacal::kernels::cuda {

#if __CUDA_ARCH__ >= 900

// Before the first product, and before one whose sums the warpgroup has touched.
__device__ __forceinline__ void begin_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
// Keeps uses of the sums where they are: after this.
template <int n>
__device__ __forceinline__ void keep_sums(float (&d)[n][4]) {
#pragma unroll
  for (int i = 0; i < 4 * n; ++i) asm volatile("" : "+f"(d[i / 4][i % 4])::"memory");
}
// Products since the last one are a group.
__device__ __forceinline__ void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until at most `pending` groups are under way: sums, and the shared memory they were made from, are free.
template <int pending>
__device__ __forceinline__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

// d = a b^T, or d += where `add`: of 16 columns. a: 64 rows, b: 8 n (matrix_descriptor.h).
template <class T, int n>
__device__ __forceinline__ void multiply_async(float (&d)[n][4], uint64_t a, uint64_t b, bool add);

// `sums`: registers of d, then those of a, b and add.
#define DELTACAL_MULTIPLY_ASYNC(type, rows, sums, a_number, b_number, add_number, ...)                  \
  template <>                                                                                           \
  __device__ __forceinline__ void multiply_async<type>(float(&d)[rows / 8][4], uint64_t a, uint64_t b,  \
                                                       bool add) {                                      \
    asm volatile(                                                                                       \
        "{\n"                                                                                           \
        ".reg .pred add;\n"                                                                             \
        "setp.ne.b32 add, %" #add_number                                                                \
        ", 0;\n"                                                                                        \
        "wgmma.mma_async.sync.aligned.m64n" #rows "k16.f32." #type "." #type " {" sums "}, %" #a_number \
        ", %" #b_number                                                                                 \
        ", add, 1, 1, 0, 0;\n"                                                                          \
        "}\n"                                                                                           \
        : __VA_ARGS__                                                                                   \
        : "l"(a), "l"(b), "r"(int(add)));                                                               \
  }
#define DELTACAL_SUM(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define DELTACAL_MULTIPLY_16(type)                                                               \
  DELTACAL_MULTIPLY_ASYNC(type, 16, "%0, %1, %2, %3, %4, %5, %6, %7", 8, 9, 10, DELTACAL_SUM(0), \
                          DELTACAL_SUM(1))
DELTACAL_MULTIPLY_16(bf16)
DELTACAL_MULTIPLY_16(f16)
#define DELTACAL_MULTIPLY_32(type)                                                                          \
  DELTACAL_MULTIPLY_ASYNC(type, 32, "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15", \
                          16, 17, 18, DELTACAL_SUM(0), DELTACAL_SUM(1), DELTACAL_SUM(2), DELTACAL_SUM(3))
DELTACAL_MULTIPLY_32(bf16)
DELTACAL_MULTIPLY_32(f16)
#define DELTACAL_MULTIPLY_64(type)                                                                           \
  DELTACAL_MULTIPLY_ASYNC(type, 64,                                                                          \
                          "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
                          "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31",            \
                          32, 33, 34, DELTACAL_SUM(0), DELTACAL_SUM(1), DELTACAL_SUM(2), DELTACAL_SUM(3),    \
                          DELTACAL_SUM(4), DELTACAL_SUM(5), DELTACAL_SUM(6), DELTACAL_SUM(7))
DELTACAL_MULTIPLY_64(bf16)
DELTACAL_MULTIPLY_64(f16)
#undef DELTACAL_MULTIPLY_16
#undef DELTACAL_MULTIPLY_32
#undef DELTACAL_MULTIPLY_64
#undef DELTACAL_SUM
#undef DELTACAL_MULTIPLY_ASYNC

#endif

}  // namespace deltacal::kernels::cuda
