// Independent pieces of work on one model, several at a time where there are more threads than one piece has
// use for.
#pragma once
#include <cstddef>
#include <functional>

#include "model/device.h"

namespace deltacal::tools {

// How many of n pieces run at the same time: on a CUDA device two, of which one keeps it busy while the other
// waits for the host.
size_t workers_for(size_t n, model::Device);

// Calls work(0), ..., work(n - 1), each once, in any order and maybe at the same time; each runs the model
// with its share of the threads. The first error ends the whole and is thrown.
void side_by_side(size_t n, model::Device, const std::function<void(size_t)>& work);

}  // namespace deltacal::tools
