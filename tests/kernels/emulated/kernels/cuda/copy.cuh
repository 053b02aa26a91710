// Stands for kernels/cuda/copy.cuh. Copies are made at once, which shows a stage refilled too early, or when
// they are waited for, which shows a missing wait (emulator::deferred_copies).
#pragma once
#include <map>
#include <vector>

#include "kernels/cuda/mma.cuh"

namespace deltacal::kernels::cuda {

struct EmulatedCopy {
  uint32_t to;
  const void* from;
  int bytes;
  void make() const { std::memcpy(emulator::shared_memory() + to, from, size_t(bytes)); }
  void check() const {
    if (to % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0 || bytes % 16 != 0)
      emulator::fail("a misaligned copy");
  }
};

struct EmulatedBarrier {
  int arrivals = 0, missing = 0, bytes = 0;
  uint32_t phase = 0;
  std::vector<EmulatedCopy> copies;
  void try_end() {
    if (missing == 0 && bytes == 0) ++phase, missing = arrivals;
  }
  void make(const EmulatedCopy& copy) {
    copy.make();
    bytes -= copy.bytes;
    try_end();
  }
};
inline EmulatedBarrier& barrier_at(uint32_t address) {
  static std::map<uint32_t, EmulatedBarrier> all;
  return all[address];
}

inline void init_barrier(uint32_t barrier, int arrivals) {
  if (barrier % 8 != 0) emulator::fail("a misaligned barrier");
  barrier_at(barrier) = {arrivals, arrivals, 0, 0, {}};
}
inline void init_barriers_done() {}
inline void arrive_expecting(uint32_t barrier, int bytes) {
  EmulatedBarrier& b = barrier_at(barrier);
  if (b.missing == 0) emulator::fail("one arrival too many in a phase");
  b.bytes += bytes, --b.missing;
  b.try_end();
}
inline void wait_barrier(uint32_t barrier, uint32_t parity) {
  EmulatedBarrier& b = barrier_at(barrier);
  for (int turns = 0; (b.phase & 1) == parity; ++turns) {
    const std::vector<EmulatedCopy> copies = std::move(b.copies);
    b.copies.clear();
    for (const EmulatedCopy& copy : copies) b.make(copy);
    if (turns > 1000000) emulator::fail("a phase does not end");
    emulator::yield();
  }
}
inline void copy_bulk_once(uint32_t to, const void* from, int bytes, uint32_t barrier) {
  const EmulatedCopy copy{to, from, bytes};
  copy.check();
  EmulatedBarrier& b = barrier_at(barrier);
  if (emulator::deferred_copies) {
    b.copies.push_back(copy);
  } else {
    b.make(copy);
  }
}

// cp.async of one thread: the groups that are under way.
using EmulatedGroup = std::vector<EmulatedCopy>;
struct EmulatedGroups {
  uint3 block{~0u, ~0u, 0};
  std::vector<EmulatedGroup> committed;
  EmulatedGroup open;
};
inline EmulatedGroups& groups_of_thread() {
  static EmulatedGroups all[1024];
  EmulatedGroups& own = all[threadIdx.x];
  if (own.block.x != blockIdx.x || own.block.y != blockIdx.y) own = {blockIdx, {}, {}};
  return own;
}
inline void copy_chunk(uint32_t to, const void* from) {
  const EmulatedCopy copy{to, from, 16};
  copy.check();
  if (emulator::deferred_copies) {
    groups_of_thread().open.push_back(copy);
  } else {
    copy.make();
  }
}
inline void commit_copies() {
  EmulatedGroups& own = groups_of_thread();
  own.committed.push_back(std::move(own.open));
  own.open.clear();
}
template <int pending>
void wait_copies() {
  EmulatedGroups& own = groups_of_thread();
  while (int(own.committed.size()) > pending) {
    for (const EmulatedCopy& copy : own.committed.front()) copy.make();
    own.committed.erase(own.committed.begin());
  }
}

}  // namespace deltacal::kernels::cuda
