// Independent pieces of work on one model, several at a time where there are more threads than one piece has
// use for.
#pragma once
#include <cstddef>
#include <functional>

namespace deltacal::tools {

// How many of n pieces run at the same time.
size_t workers_for(size_t n);

// Calls work(0), ..., work(n - 1), each once, in any order and maybe at the same time; each runs the model
// with its share of the threads. The first error ends the whole and is thrown.
void side_by_side(size_t n, const std::function<void(size_t)>& work);

}  // namespace deltacal::tools
