// kernels/cuda/launch_kernel.h for the emulator: runs the kernel thread by thread.
#pragma once
#include "runtime.h"

namespace deltacal::kernels::cuda {

template <class... Parameters, class... Arguments>
void launch_kernel(const char* name, void (*kernel)(Parameters...), dim3 grid, int block, size_t shared,
                   const Launch&, const Arguments&... arguments) {
  if (shared > current_device().shared_a_block) refuse(std::string(name) + ": too much shared memory");
  const auto start = [&](Parameters... values) {
    emulator::submit([=] { emulator::run_grid(grid, block, shared, [=] { kernel(values...); }); });
  };
  start(arguments...);
}

}  // namespace deltacal::kernels::cuda
