// Which row of a swizzled block each lane gives to ldmatrix, so that the four matrices it brings are operands
// of mma m16n8k16 (kernels/cuda/mma.cuh). Arithmetic alone: tests hold it against a product computed by hand.
#pragma once
#include "kernels/cuda/paged.h"

namespace deltacal::kernels::cuda {

// Offsets in bytes of a lane's row from the start of a block of rows of D 16-bit elements; chunks 2 i and 2 i
// + 1 are where it reads for i: address = block + row + ((32 * i) ^ turn).
struct MatrixRow {
  int row, turn;
};

// Matrices 0, 1: rows 0-7, first and second chunk; 2, 3: rows 8-15. Keys by dimensions, as B operands:
// registers 0 and 1 are b0 and b1 of the first eight keys, 2 and 3 those of the other eight.
DELTACAL_HOST_DEVICE constexpr MatrixRow rows_then_chunks(int head_dim, int lane) {
  const int matrix = lane / 8, row = (matrix / 2) * 8 + lane % 8;
  return {row * head_dim * 2, ((matrix % 2) ^ swizzle(head_dim, row)) * 16};
}

// Matrices 0, 1: first chunk, rows 0-7 and 8-15; 2, 3: second chunk. Queries by dimensions, as an A operand;
// and transposed, keys by dimensions, as B operands of two tiles of eight dimensions.
DELTACAL_HOST_DEVICE constexpr MatrixRow chunks_then_rows(int head_dim, int lane) {
  const int matrix = lane / 8, row = (matrix % 2) * 8 + lane % 8;
  return {row * head_dim * 2, ((matrix / 2) ^ swizzle(head_dim, row)) * 16};
}

}  // namespace deltacal::kernels::cuda
