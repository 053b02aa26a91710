// Matrices in device memory as the copy engine of sm_90 sees them (tensor maps: CUDA driver API, "Tensor Map
// Object Management"), and the box of one that a single copy moves (copy_box in copy.cuh).
//
// The matrix has 16-bit numbers and dimensions [groups, parts, rows, columns]; a box is `box_groups` groups
// whole, of 64 columns. In shared memory its rows follow each other, 128 bytes each, as wgmma reads them:
// 16-byte chunk c of row r at place c ^ (r % 8). What lies outside the matrix arrives as zeros.
#pragma once
#include "kernels/cuda/launch.h"

namespace deltacal::kernels::cuda {

constexpr int box_columns = 64;

struct alignas(128) TensorMap {  // a kernel's parameter, __grid_constant__
  uint64_t words[16];
};

struct BoxedMatrix {
  const void* data = nullptr;  // aligned to 16 bytes, as are the strides
  int columns = 0, rows = 1, parts = 1, groups = 0;
  size_t row_stride = 0, part_stride = 0, group_stride = 0;  // bytes
  int box_groups = 0;                                        // at most 256, as are rows and parts
};

// Throws Error where the driver refuses the matrix, or knows no tensor maps.
TensorMap make_tensor_map(const BoxedMatrix&);

}  // namespace deltacal::kernels::cuda
