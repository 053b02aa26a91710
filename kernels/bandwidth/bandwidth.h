// What the device's memory gives: the yardstick of every figure. A pass over an array far larger than the
// caches.
#pragma once
#include "kernels/cuda/launch.h"

namespace deltacal::kernels::cuda::bandwidth {

// Reads every byte once, by `blocks_an_sm` blocks a multiprocessor (2 to 16: which is fastest differs by
// device). bytes: a multiple of 16. `never`: one number in device memory.
void read(const void* from, size_t bytes, uint32_t* never, int blocks_an_sm, const Launch&);
void copy(void* to, const void* from, size_t bytes, const Launch&);

}  // namespace deltacal::kernels::cuda::bandwidth
