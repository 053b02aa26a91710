// The gate of SwiGLU, wherever it is computed: silu(gate) * up.
#pragma once
#include "kernels/cuda/device.cuh"

namespace deltacal::kernels::cuda::swiglu {

__device__ __forceinline__ float gated(float gate, float up) {
  return gate / (1 + exp2_fast(-log2_e * gate)) * up;
}

}  // namespace deltacal::kernels::cuda::swiglu
