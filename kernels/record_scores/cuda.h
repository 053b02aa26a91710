// params.h on a CUDA device.
#pragma once
#include "kernels/cuda/launch.h"
#include "kernels/record_scores/params.h"

namespace deltacal::kernels::cuda::record_scores {

// Checks and launches. Allocates nothing, waits for nothing, may be captured into a graph. What the arrays
// hold is not checked.
void run(const Params&, const Launch&);

}  // namespace deltacal::kernels::cuda::record_scores
