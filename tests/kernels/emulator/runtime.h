// Launches, at once or into the graph that is being captured.
#pragma once
#include <functional>

#include "cuda_runtime_api.h"

namespace emulator {

void submit(std::function<void()> work);
// Runs `kernel` for every block of the grid, one after the other; those of a cluster together.
void run_grid(dim3 grid, int n_threads, int cluster, size_t shared, const std::function<void()>& kernel);

}  // namespace emulator
