// Tensor cores by mma.sync m16n8k16 (PTX ISA, "Matrix fragments for mma.m16n8k16"). With r = lane / 4, c =
// lane % 4:
//
//   A [16, 16]: a0 = (r, 2c..), a1 = (r + 8, 2c..), a2 = (r, 2c + 8..), a3 = (r + 8, 2c + 8..), two columns
//   each B [16, 8]:  b0 = (2c.., r), b1 = (2c + 8.., r), two rows each C [16, 8]:  c0, c1 = (r, 2c), (r, 2c +
//   1); c2, c3 = (r + 8, 2c), (r + 8, 2c + 1)
//
// So two C fragments side by side, packed, are an A fragment: the probabilities of 16 keys.
#pragma once
#include "kernels/cuda/device.cuh"

namespace deltacal::kernels::cuda {

// d += a b
template <class T>
__device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
template <>
__device__ __forceinline__ void mma<bf16>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ __forceinline__ void mma<f16>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Address in the window of shared memory, as the instructions below take it.
__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Four 8x8 matrices of 16-bit elements; lanes 8 m .. 8 m + 7 give the addresses of the rows of matrix m. Lane
// l gets of each: row l / 4, columns 2 (l % 4) and the next. Transposed: rows 2 (l % 4) and the next of
// column l / 4.
__device__ __forceinline__ void load_matrices(uint32_t (&to)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&to)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}

}  // namespace deltacal::kernels::cuda
