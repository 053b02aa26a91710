// Rotary embedding of one head, wherever it is computed. Params: pairs, rotary_dim, inverse_frequency and
// amplitude as in append_kv/cuda.h.
#pragma once
#include "kernels/append_kv/cuda.h"
#include "kernels/cuda/device.cuh"

namespace deltacal::kernels::cuda::append_kv {

// Of a head of head_dim numbers.
template <class Params>
void check_turn(const char* kernel, const Params& p, int head_dim) {
  require(p.rotary_dim >= 0 && p.rotary_dim % 2 == 0 && p.rotary_dim <= head_dim, kernel, "rotary_dim",
          p.rotary_dim, "an even number, 0 to head_dim = " + std::to_string(head_dim));
  if (p.rotary_dim > 0) require_pointer(kernel, "inverse_frequency", p.inverse_frequency);
}

// cos and sin of position * inverse_frequency[j], times the amplitude, for every j; by all threads of a
// block.
template <class Params>
__device__ void angles(const Params& p, int position, float2* turn) {
  for (int j = int(threadIdx.x); j < p.rotary_dim / 2; j += int(blockDim.x)) {
    const double half_turns = double(position) * double(p.inverse_frequency[j]) * 0.31830988618379067154;
    float s, c;
    sincospif(float(half_turns - 2 * rint(0.5 * half_turns)), &s, &c);
    turn[j] = make_float2(c * p.amplitude, s * p.amplitude);
  }
}

// Dimension d of the head at x and its bias, where there is one.
template <class T>
__device__ float biased(const T* x, const float* bias, int d) {
  return bias ? to_float(x[d]) + bias[d] : to_float(x[d]);
}

// Dimension d of the head at x, turned.
template <class T, class Params>
__device__ float turned(const Params& p, const float2* turn, const T* x, const float* bias, int d) {
  const float own = biased(x, bias, d);
  if (d >= p.rotary_dim) return own;
  const int half = p.rotary_dim / 2;
  const bool neox = p.pairs == RotaryPairs::neox;
  const int j = neox ? (d < half ? d : d - half) : d / 2;
  const bool first = neox ? d < half : d % 2 == 0;
  const float other = biased(x, bias, first ? d + (neox ? half : 1) : d - (neox ? half : 1));
  return first ? own * turn[j].x - other * turn[j].y : own * turn[j].x + other * turn[j].y;
}

}  // namespace deltacal::kernels::cuda::append_kv
