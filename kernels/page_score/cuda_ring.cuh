// The records of paged attention on their way into shared memory: each warp streams its own tiles of four
// pages through its own ring.
#pragma once
#include "kernels/cuda/copy.cuh"
#include "kernels/page_score/cuda.h"

namespace deltacal::kernels::cuda::page_score {

constexpr int tile_pages = 4;

// How a call is spread: tiles are counted through, rows in order; the warps of the grid share them evenly.
struct Plan {
  int n_blocks = 0, n_warps = 0, stages = 0;  // warps of a block, stages of a warp's ring
  int stage_bytes = 0;                        // [n_kv_heads, tile_pages] records
  int n_tiles = 0, tiles_a_row = 0;

  // First tile of a warp, counted over the grid; warps with one more lie between the others. All in 32 bits
  // (left is below the warps of a device, some thousands): a division of 64 is a hundred instructions.
  DELTACAL_HOST_DEVICE int first_tile(int warp) const {
    const int n = n_blocks * n_warps, left = n_tiles % n;
    return warp * (n_tiles / n) + warp * left / n;
  }
};

// A tile: its row and its first page.
struct Tile {
  int row = 0, page = 0;
  int pages = 0;  // that the row sees; 0: it is idle

  __device__ Tile(const Params& p, const Plan& plan, int number) {
    row = number / plan.tiles_a_row;
    page = number % plan.tiles_a_row * tile_pages;
    look_up(p);
  }
  __device__ void advance(const Params& p, const Plan& plan) {
    page += tile_pages;
    if (page < plan.tiles_a_row * tile_pages) return;
    page = 0, ++row;
    look_up(p);
  }
  // Of its pages, those that the row sees.
  __device__ int seen() const { return max(0, min(tile_pages, pages - page)); }

 private:
  __device__ void look_up(const Params& p) {
    const int length = row < p.n_rows ? p.length[row] : 0;
    pages = length > 0 ? pages_for(length) : 0;
  }
};

// Where a tile's records lie: `bytes` of each key/value head.
struct Span {
  char* first;   // of the first key/value head
  size_t pitch;  // from one key/value head to the next
  int bytes;

  __device__ Span(const Params& p, const Tile& tile, int record)
      : pitch(size_t(p.logits.max_pages) * size_t(record)), bytes(tile.seen() * record) {
    first = static_cast<char*>(p.logits.records) + size_t(tile.row) * size_t(p.n_kv_heads) * pitch +
            size_t(tile.page) * size_t(record);
  }
  // By the warp: the lines of the second-level cache that the tile has for itself go.
  __device__ void discard(int n_kv_heads) const {
    const int lines = bytes / 128 + 1;
    for (int i = int(threadIdx.x) % 32; i < n_kv_heads * lines; i += 32) {
      const uintptr_t from = reinterpret_cast<uintptr_t>(first) + size_t(i / lines) * pitch,
                      end = from + uintptr_t(bytes);
      const uintptr_t line = (from + 127) / 128 * 128 + uintptr_t(i % lines) * 128;
      if (line + 128 <= end) discard_line(reinterpret_cast<void*>(line));
    }
  }
};

// Tile number i of the warp goes to stage i % stages; nobody but this warp touches it.
class Ring {
 public:
  __device__ Ring(const Plan& plan, char* stages, char* barriers)
      : plan_(plan),
        stages_(stages + threadIdx.x / 32 * plan.stages * plan.stage_bytes),
        barriers_(shared_address(barriers) + threadIdx.x / 32 * plan.stages * 8) {}
  // By every lane, before any other use.
  __device__ void init() {
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x % 32 == 0) {
      for (int s = 0; s < plan_.stages; ++s) init_barrier(barriers_ + s * 8, 1);
      init_barriers_done();
    }
    __syncwarp();
#endif
  }
  __device__ const char* stage(int s) const {
    return stages_ + s * plan_.stage_bytes;
  }
  // By every lane, once for each tile in order. The lanes have read what the stage held before (they have met
  // at a __syncwarp since).
  __device__ void issue(const Params& p, const Tile& tile, int s) {
    const Span span(p, tile, plan_.stage_bytes / (p.n_kv_heads * tile_pages));
    const uint32_t to = shared_address(stage(s)), pitch = uint32_t(plan_.stage_bytes / p.n_kv_heads);
    const int lane = int(threadIdx.x) % 32;
#if __CUDA_ARCH__ >= 900
    if (lane == 0) arrive_expecting(barriers_ + s * 8, span.bytes * p.n_kv_heads);
    __syncwarp();
    for (int g = lane; span.bytes > 0 && g < p.n_kv_heads; g += 32)
      copy_bulk_once(to + uint32_t(g) * pitch, span.first + size_t(g) * span.pitch, span.bytes,
                     barriers_ + s * 8);
#else
    for (int g = 0; g < p.n_kv_heads; ++g)
      for (int i = lane * 16; i < span.bytes; i += 32 * 16)
        copy_chunk(to + uint32_t(g) * pitch + uint32_t(i), span.first + size_t(g) * span.pitch + i);
    commit_copies();
#endif
  }
  // Until the tile in stage s is there: the n-th one it holds has parity n % 2. Every lane may read it then.
  __device__ void wait(int s, uint32_t parity) {
#if __CUDA_ARCH__ >= 900
    wait_barrier(barriers_ + s * 8, parity);
#else
    wait_copies<0>();  // for later tiles too: how many they are is not known to the compiler
#endif
    __syncwarp();
  }

 private:
  const Plan& plan_;
  char* stages_;
  uint32_t barriers_;
};

}  // namespace deltacal::kernels::cuda::page_score
