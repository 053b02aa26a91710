// kernels/cuda/tensor_map.cpp for the emulator: a map is the matrix it was made from. Refuses what a driver
// refuses.
#include "kernels/cuda/tensor_map.h"

#include <cstring>

namespace deltacal::kernels::cuda {

TensorMap make_tensor_map(const BoxedMatrix& m) {
  require_aligned("tensor map", "data", m.data, 16);
  for (const size_t stride : {m.row_stride, m.part_stride, m.group_stride})
    require(stride % 16 == 0 && stride < (size_t(1) << 40), "tensor map", "stride", long(stride),
            "a multiple of 16 below 2^40");
  for (const int n : {m.rows, m.parts, m.box_groups})
    require(n >= 1 && n <= 256, "tensor map", "a box", n, "1 to 256 in every dimension");
  TensorMap map = {};
  static_assert(sizeof m <= sizeof map);
  std::memcpy(&map, &m, sizeof m);
  return map;
}

}  // namespace deltacal::kernels::cuda
