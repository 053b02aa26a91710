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
inline float4 load_from_block(uint32_t address, int rank) {
  return emulated_load(static_cast<const float4*>(emulator::shared_pointer_of(rank, address)));
}

}  // namespace deltacal::kernels::cuda
