// The gate of SwiGLU, wherever it is computed: silu(gate) * up.
#pragma once
#include "kernels/cuda/device.cuh"

namespace deltacal::kernels::cuda::swiglu {

// A quotient of relative error 2^-22, without the branches of an exact one; 0 where the divisor is 2^126 or
// more.
__device__ __forceinline__ float gated(float gate, float up) {
  return __fdividef(gate, 1 + exp2_fast(-log2_e * gate)) * up;
}

}  // namespace deltacal::kernels::cuda::swiglu
