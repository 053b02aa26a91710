#include "kernels/cuda/tensor_map.h"

#include <cuda.h>

#include <cstring>

#include "core/error.h"

namespace deltacal::kernels::cuda {
namespace {

static_assert(sizeof(TensorMap) == sizeof(CUtensorMap) && alignof(TensorMap) >= alignof(CUtensorMap));

// By the runtime: programs are not linked with the driver, which need not be there.
decltype(&cuTensorMapEncodeTiled) encoder() {
  static const auto found = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault,
                                           &result),
          "cuTensorMapEncodeTiled");
    if (result != cudaDriverEntryPointSuccess || function == nullptr)
      throw failure("CUDA: the driver has no cuTensorMapEncodeTiled; install one for CUDA 12 or later");
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  }();
  return found;
}

}  // namespace

TensorMap make_tensor_map(const BoxedMatrix& m) {
  const cuuint64_t size[4] = {cuuint64_t(m.columns), cuuint64_t(m.rows), cuuint64_t(m.parts),
                              cuuint64_t(m.groups)};
  const cuuint64_t stride[3] = {m.row_stride, m.part_stride, m.group_stride};
  const cuuint32_t box[4] = {box_columns, cuuint32_t(m.rows), cuuint32_t(m.parts), cuuint32_t(m.box_groups)},
                   step[4] = {1, 1, 1, 1};
  CUtensorMap map;
  const CUresult result =
      encoder()(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 4, const_cast<void*>(m.data), size, stride, box, step,
                CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw failure("CUDA, cuTensorMapEncodeTiled: error {} for a matrix of {} groups of {} x {} rows of {}",
                  int(result), m.groups, m.parts, m.rows, m.columns);
  TensorMap out;
  std::memcpy(&out, &map, sizeof out);
  return out;
}

}  // namespace deltacal::kernels::cuda
