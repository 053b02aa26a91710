// kernels/cuda/copy.cuh for the emulator.
#pragma once
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/tensor_map.h"

namespace deltacal::kernels::cuda {

inline void require_aligned_copy(const void* to, const void* from) {
  if (reinterpret_cast<uintptr_t>(to) % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0)
    throw std::logic_error("emulator: a misaligned copy");
}

inline void init_barrier(uint32_t barrier, int arrivals) {
  emulator::Block::now().init_barrier(barrier, arrivals);
}
inline void init_barriers_done() {}
inline void arrive_expecting(uint32_t barrier, int bytes) {
  emulator::Block::now().arrive(barrier, bytes);
}
inline void arrive(uint32_t barrier) {
  emulator::Block::now().arrive(barrier, 0);
}
inline void wait_barrier(uint32_t barrier, uint32_t parity) {
  emulator::Block::now().wait_barrier(barrier, parity);
}
inline void copy_bulk(uint32_t to, const void* from, int bytes, uint32_t barrier) {
  void* target = emulator::shared_pointer(to);
  require_aligned_copy(target, from);
  if (bytes % 16 != 0) throw std::logic_error("emulator: a copy that is no multiple of 16 bytes");
  emulator::Block::now().copy_at(barrier, bytes, [=] { std::memcpy(target, from, size_t(bytes)); });
}
inline void copy_bulk_once(uint32_t to, const void* from, int bytes, uint32_t barrier) {
  copy_bulk(to, from, bytes, barrier);
}

inline void copy_box(uint32_t to, const TensorMap& map, int column, int group, uint32_t barrier) {
  BoxedMatrix m;
  std::memcpy(static_cast<void*>(&m), &map, sizeof m);
  char* target = static_cast<char*>(emulator::shared_pointer(to));
  if (to % 1024 != 0) throw std::logic_error("emulator: a box at a place that is no multiple of 1024");
  const int n_rows = m.box_groups * m.parts * m.rows;
  emulator::Block::now().copy_at(barrier, n_rows * box_columns * 2, [=] {
    for (int r = 0; r < n_rows; ++r) {
      const int g = group + r / m.rows / m.parts;
      const char* from = static_cast<const char*>(m.data) + size_t(g) * m.group_stride +
                         size_t(r / m.rows % m.parts) * m.part_stride + size_t(r % m.rows) * m.row_stride;
      for (int c = 0; c < box_columns; ++c) {
        char* number = target + r * 128 + (((c / 8) ^ (r % 8)) * 8 + c % 8) * 2;
        if (g < m.groups && column + c < m.columns)
          std::memcpy(number, from + size_t(column + c) * 2, 2);
        else
          std::memset(number, 0, 2);
      }
    }
  });
}
inline void copy_box_once(uint32_t to, const TensorMap& map, int column, int group, uint32_t barrier) {
  copy_box(to, map, column, group, barrier);
}

inline void prefetch_line(const void*) {}

inline void copy_chunk(uint32_t to, const void* from) {
  void* target = emulator::shared_pointer(to);
  require_aligned_copy(target, from);
  emulator::Block::now().copy([=] { std::memcpy(target, from, 16); });
}
inline void copy_chunk_once(uint32_t to, const void* from) {
  copy_chunk(to, from);
}
inline void commit_copies() {
  emulator::Block::now().close_group();
}
template <int pending>
void wait_copies() {
  emulator::Block::now().wait_groups(pending);
}

inline void discard_line(void* line) {
  if (reinterpret_cast<uintptr_t>(line) % 128 != 0) throw std::logic_error("emulator: a misaligned line");
  std::memset(line, 0xff, 128);  // NaN
}

inline void load_chunk_if(bool there, uint4& to, const void* from) {
  if (there) to = emulated_load(static_cast<const uint4*>(from));
}

}  // namespace deltacal::kernels::cuda
