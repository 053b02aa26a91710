#include "kernels/record_values/cuda.h"
#include "kernels/record_values/kernel.cuh"

namespace deltacal::kernels::cuda::record_values {

void run(const Params& p, const Launch& launch) {
  check(p);
  if (p.n_rows > 0)
    launch_kernel("record_values", kernel_of(p), grid_of(p), row_tile::n_threads, 0, launch, p);
}

}  // namespace deltacal::kernels::cuda::record_values
