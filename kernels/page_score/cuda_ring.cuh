// The records of paged attention on their way into shared memory: each warp streams its own tiles of two
// pages through its own ring.
#pragma once
#include "kernels/cuda/copy.cuh"
#include "kernels/page_score/cuda.h"

namespace deltacal::kernels::cuda::page_score {

constexpr int tile_pages = 2;

// How a call is spread: tiles are counted through, rows in order; warp w of the grid takes the tiles
// [w tiles_a_warp, (w + 1) tiles_a_warp).
struct Plan {
  int n_warps = 0, stages = 0;  // warps of a block, stages of a warp's ring
  int stage_bytes = 0;          // [n_kv_heads, tile_pages] records
  int n_tiles = 0, tiles_a_row = 0, tiles_a_warp = 0;
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
    const int record = plan_.stage_bytes / (p.n_kv_heads * tile_pages), bytes = tile.seen() * record;
    const size_t head_bytes = size_t(p.logits.max_pages) * size_t(record);
    const char* from = static_cast<const char*>(p.logits.records) +
                       size_t(tile.row) * size_t(p.n_kv_heads) * head_bytes +
                       size_t(tile.page) * size_t(record);
    const uint32_t to = shared_address(stage(s));
    const int lane = int(threadIdx.x) % 32;
#if __CUDA_ARCH__ >= 900
    if (lane == 0) arrive_expecting(barriers_ + s * 8, bytes * p.n_kv_heads);
    __syncwarp();
    for (int g = lane; bytes > 0 && g < p.n_kv_heads; g += 32)
      copy_bulk(to + g * tile_pages * record, from + size_t(g) * head_bytes, bytes, barriers_ + s * 8);
#else
    for (int g = 0; g < p.n_kv_heads; ++g)
      for (int i = lane * 16; i < bytes; i += 32 * 16)
        copy_chunk(to + g * tile_pages * record + i, from + size_t(g) * head_bytes + i);
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
