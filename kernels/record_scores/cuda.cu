#include "kernels/record_scores/cuda.h"
#include "kernels/record_scores/kernel.cuh"

namespace deltacal::kernels::cuda::record_scores {

void run(const Params& p, const Launch& launch) {
  check(p);
  if (p.n_rows > 0)
    launch_kernel("record_scores", kernel_of(p), grid_of(p), row_tile::n_threads, 0, launch, p);
}

}  // namespace deltacal::kernels::cuda::record_scores
