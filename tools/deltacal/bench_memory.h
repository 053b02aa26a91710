// The yardstick of `bench`: what the memory gives to all threads.
#pragma once

namespace deltacal::tools {

struct MemoryBandwidth {
  double read = 0, copy = 0;  // GB/s; a copy counts the bytes read and the bytes written
};

// Medians of `repeats` passes over arrays far larger than the caches.
MemoryBandwidth measure_memory(int repeats);

}  // namespace deltacal::tools
