// Independent pieces of work on one model, several at a time where there are more threads than one piece has
// use for.
#pragma once
#include <cstddef>
#include <functional>

#include "decode/step_memory.h"
#include "model/model.h"

namespace deltacal::tools {

// How many of n pieces run at the same time: on a CUDA device two, of which one keeps it busy while the other
// waits for the host, or one where its memory holds no second.
size_t workers_for(size_t n, const model::Model&, const decode::PrefillNeed& of_piece);
size_t most_workers(size_t n, model::Device);  // whatever the memory

// Calls work(0), ..., work(n - 1), each once, in any order, up to `n_workers` at the same time; each runs the
// model with its share of the threads. The first error ends the whole and is thrown.
void side_by_side(size_t n, size_t n_workers, const std::function<void(size_t)>& work);

}  // namespace deltacal::tools
