// kernels/cuda/cluster.cuh for the emulator.
#pragma once
#include "kernels/cuda/mma.cuh"

namespace deltacal::kernels::cuda {

inline void arrive_in_cluster() {
  emulator::Block::now().arrive_in_cluster();
}
inline void wait_for_cluster() {
  emulator::Block::now().wait_for_cluster();
}
inline void send_to_block(int rank, uint32_t to, float4 x, uint32_t barrier) {
  if (to % 16 != 0) throw std::logic_error("emulator: a misaligned place");
  void* target = emulator::shared_pointer_of(rank, to);
  emulator::Block::now().copy_to(rank, barrier, sizeof x, [=] { std::memcpy(target, &x, sizeof x); });
}
inline void wait_barrier_in_cluster(uint32_t barrier, uint32_t parity) {
  emulator::Block::now().wait_barrier(barrier, parity);
}

}  // namespace deltacal::kernels::cuda
