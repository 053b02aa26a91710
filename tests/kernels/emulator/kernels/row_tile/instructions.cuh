// kernels/row_tile/instructions.cuh for the emulator.
#pragma once
#include "kernels/cuda/copy.cuh"

namespace deltacal::kernels::cuda::row_tile {

inline void copy_or_clear(void* to, const void* from, bool there) {
  require_aligned_copy(to, from);
  emulator::Block::now().copy(
      [=] { there ? (void)std::memcpy(to, from, 16) : (void)std::memset(to, 0, 16); });
}
inline void copies_done() {
  emulator::Block::now().wait_all_copies();
}

}  // namespace deltacal::kernels::cuda::row_tile
