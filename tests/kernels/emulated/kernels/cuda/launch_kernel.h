// Stands for kernels/cuda/launch_kernel.h.
#pragma once
#include "emulator.h"

namespace deltacal::kernels::cuda {

template <class... Parameters, class... Arguments>
void launch_kernel(const char*, void (*kernel)(Parameters...), dim3 grid, int block, size_t shared,
                   const Launch&, const Arguments&... arguments) {
  const auto start = [&](Parameters... values) {
    emulator::launch(grid, block, shared, [=] { kernel(values...); });
  };
  start(arguments...);
}

}  // namespace deltacal::kernels::cuda
