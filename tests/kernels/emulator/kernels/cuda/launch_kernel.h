// kernels/cuda/launch_kernel.h for the emulator: runs the kernel thread by thread.
#pragma once
#include "runtime.h"

namespace deltacal::kernels::cuda {

template <class... Parameters, class... Arguments>
void launch_clusters(const char* name, void (*kernel)(Parameters...), dim3 grid, int cluster, int block,
                     size_t shared, const Launch&, const Arguments&... arguments) {
  if (shared > current_device().shared_a_block) refuse(std::string(name) + ": too much shared memory");
  const auto start = [&](Parameters... values) {
    emulator::submit([=] { emulator::run_grid(grid, block, cluster, shared, [=] { kernel(values...); }); });
  };
  start(arguments...);
}
template <class... Parameters, class... Arguments>
void launch_kernel(const char* name, void (*kernel)(Parameters...), dim3 grid, int block, size_t shared,
                   const Launch& launch, const Arguments&... arguments) {
  launch_clusters(name, kernel, grid, 1, block, shared, launch, arguments...);
}

// Of eight blocks together: small cases have clusters of all sizes.
template <class... Parameters>
int clusters_at_a_time(const char*, void (*)(Parameters...), int cluster, int, size_t) {
  return 8 / cluster;
}

}  // namespace deltacal::kernels::cuda
