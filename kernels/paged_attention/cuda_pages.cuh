// The pages that a warp of paged attention works through: which they are, and their way into shared memory.
#pragma once
#include "kernels/cuda/copy.cuh"
#include "kernels/paged_attention/cuda.h"
#include "kernels/paged_attention/cuda_plan.h"

namespace deltacal::kernels::cuda::paged_attention {

// Shared memory of a block, in bytes from its start: for each warp a ring of stages, a key page and a value
// page each; a buffer for the block's queries, and later for the warps' outputs (8 rows of heads at a time)
// or the parts' weights; the warps' maxima and sums; an mbarrier a stage.
template <int D>
struct Shared {
  // One block of many warps an SM: half as many parts to merge as from two blocks. Measured on an H200,
  // against four warps, three stages and two blocks: 20.9 for 22.9 us (32 rows of 1,024 tokens), 25.5
  // for 28.7 (a row of 32K).
  static constexpr int n_warps = D <= 128 ? 8 : 4;
  static constexpr int page_bytes = page_size * D * 2;
  static constexpr int stages = D <= 128 ? 256 / D : 2;
  static constexpr int warp_ring = stages * 2 * page_bytes;
  static constexpr int buffer = n_warps * warp_ring;
  static constexpr int buffer_bytes = n_warps * 8 * D * 4;
  static constexpr int sums = buffer + buffer_bytes;
  static constexpr int barriers = sums + n_warps * tile_heads * 8;
  static constexpr int flag = barriers + n_warps * stages * 8;
  static constexpr int bytes = flag + 16;
  static_assert(tile_heads * D * 2 <= buffer_bytes && max_parts * tile_heads * 4 <= buffer_bytes);
  static_assert(stages <= 32 && page_bytes % 16 == 0);
  static_assert(bytes <= 163 * 1024);                          // what a block can have on sm_80
};

// A row, and its first unit. Moves forward only.
struct Cursor {
  int row = 0, first = 0;
  int pages = 0;  // that the row attends to
};

struct Work {
  const Params& p;
  int tiles;        // of a row, over all key/value heads
  int group_tiles;  // of a key/value head

  __device__ explicit Work(const Params& params) : p(params) {
    group_tiles = divide_up(p.n_heads / p.kv.n_kv_heads, tile_heads);
    tiles = p.kv.n_kv_heads * group_tiles;
  }
  __device__ int pages_of(int row) const {
    return attended_pages(p.length[row], p.list == nullptr ? -1
                                         : p.list_length   ? p.list_length[row]
                                                           : p.k_pages);
  }
  // To the row of `unit`.
  __device__ void advance(Cursor& at, int unit) const {
    while (unit >= at.first + at.pages * tiles) {
      at.first += at.pages * tiles;
      at.pages = pages_of(++at.row);
    }
  }
  // Logical page of page i of the row at `at`, in the order it attends to them.
  __device__ int logical_page(const Cursor& at, int i) const {
    const bool all = at.pages == (p.length[at.row] > 0 ? pages_for(p.length[at.row]) : 0);
    return all ? i : p.list[size_t(at.row) * size_t(p.list_stride) + size_t(i)];
  }
};

// Sum and largest of the rows' units, and the row of unit `begin` = block * chunk, by a warp.
struct Range {
  int begin = 0, end = 0, chunk = 0;
  Cursor at;
};

__device__ inline Range range_of_block(const Work& work, int block, int n_blocks, int n_warps) {
  const int lane = int(threadIdx.x) % 32, n_rows = work.p.n_rows;
  const int own = lane < n_rows ? work.pages_of(lane) : 0;  // of the first 32 rows
  int total = own * work.tiles, longest = own;
  for (int r = lane + 32; r < n_rows; r += 32) {
    const int pages = work.pages_of(r);
    total += pages * work.tiles;
    longest = max(longest, pages);
  }
  total = __reduce_add_sync(all_lanes, total);
  longest = __reduce_max_sync(all_lanes, longest);
  Range range;
  range.chunk = chunk_units(total, longest, n_blocks, n_warps);
  range.begin = block * range.chunk;
  range.end = min(total, range.begin + range.chunk);
  if (range.begin >= range.end) return range;

  int before = 0;  // units of the rows before this turn's 32
  for (int base = 0;; base += 32) {
    const int row = base + lane, pages = base == 0 ? own : row < n_rows ? work.pages_of(row) : 0;
    int sum = pages * work.tiles;  // inclusive, over the lanes up to this one
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
      const int other = __shfl_up_sync(all_lanes, sum, offset);
      if (lane >= offset) sum += other;
    }
    const unsigned beyond = __ballot_sync(all_lanes, before + sum > range.begin);
    if (beyond != 0) {
      const int source = __ffs(int(beyond)) - 1;
      const int first = before + sum - pages * work.tiles;
      range.at = {base + source, __shfl_sync(all_lanes, first, source),
                  __shfl_sync(all_lanes, pages, source)};
      return range;
    }
    before += __shfl_sync(all_lanes, sum, 31);
  }
}

// The pages of one warp: number j is unit begin + warp + n_warps j of its block. Where they lie is looked up
// 32 at a time, one by a lane, a batch ahead of need.
template <int n_warps>
class Places {
 public:
  __device__ Places(const Work& work, const Range& range)
      : work_(work), cursor_(range.at), first_(range.begin + int(threadIdx.x) / 32), end_(range.end) {
    look_up(0, block_, page_);
    if (work.p.early) {
      const bool last =
          unit(int(threadIdx.x) % 32) < end_ && page_ == pages_for(work.p.length[cursor_.row]) - 1;
      last_pages_ = __ballot_sync(all_lanes, last);
    }
    look_up(1, next_block_, next_page_);
  }
  __device__ bool exists(int j) const { return unit(j) < end_; }
  __device__ int unit(int j) const { return first_ + n_warps * j; }
  // Bit j: page j, of the first 32, is the last one that its row sees. Of calls that ask for pages early.
  __device__ unsigned last_pages() const { return last_pages_; }
  // Physical page * n_kv_heads + key/value head of page j, which is less than 32 pages after `now`. By the
  // whole warp.
  __device__ int block(int j, int now) const {
    return __shfl_sync(all_lanes, j / 32 == now / 32 ? block_ : next_block_, j % 32);
  }
  // Logical page of page `now`.
  __device__ int page(int now) const { return __shfl_sync(all_lanes, page_, now % 32); }
  // Page `now` is done with.
  __device__ void done(int now) {
    if (now % 32 != 31) return;
    block_ = next_block_, page_ = next_page_;
    look_up(now / 32 + 2, next_block_, next_page_);
  }

 private:
  __device__ void look_up(int batch, int& block, int& page) {
    const int x = unit(batch * 32 + int(threadIdx.x) % 32);
    block = page = 0;
    if (x >= end_) return;
    work_.advance(cursor_, x);
    const Params& p = work_.p;
    const int local = x - cursor_.first, tile = local / cursor_.pages;
    page = work_.logical_page(cursor_, local - tile * cursor_.pages);
    const int sequence = p.sequence ? p.sequence[cursor_.row] : cursor_.row;
    block = p.kv.page_table[size_t(sequence) * size_t(p.kv.max_pages) + size_t(page)] * p.kv.n_kv_heads +
            tile / work_.group_tiles;
  }

  const Work& work_;
  Cursor cursor_;
  int first_, end_;
  int block_, page_, next_block_, next_page_;
  unsigned last_pages_ = 0;
};

// A warp's ring of pages. Page j goes to stage j % stages; nobody but this warp touches it.
template <int D>
class Ring {
 public:
  using S = Shared<D>;
  __device__ explicit Ring(uint32_t shared)
      : pages_(shared + (threadIdx.x / 32) * S::warp_ring),
        barriers_(shared + S::barriers + (threadIdx.x / 32) * S::stages * 8) {}

  // By every lane, before the block's first __syncthreads.
  __device__ void init() {
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x % 32 == 0) {
      for (int s = 0; s < S::stages; ++s) init_barrier(barriers_ + s * 8, 1);
      init_barriers_done();
    }
#endif
  }
  __device__ uint32_t keys(int stage) const {
    return pages_ + stage * 2 * S::page_bytes;
  }
  __device__ uint32_t values(int stage) const {
    return keys(stage) + S::page_bytes;
  }

  // By every lane, once for each page in order, and beyond the last with exists = false. The lanes have read
  // what the stage held before (they have met at a __syncwarp since). once: it is the first to leave the
  // second-level cache.
  __device__ void issue(const PagedKv& kv, int stage, int block, bool exists, bool once = true) {
    const size_t offset = block_offset(D, block) * 2;
    const char* key = static_cast<const char*>(kv.keys) + offset;
    const char* value = static_cast<const char*>(kv.values) + offset;
#if __CUDA_ARCH__ >= 900
    if (exists && threadIdx.x % 32 == 0) {
      const uint32_t barrier = barriers_ + stage * 8;
      arrive_expecting(barrier, 2 * S::page_bytes);
      if (once) {
        copy_bulk_once(keys(stage), key, S::page_bytes, barrier);
        copy_bulk_once(values(stage), value, S::page_bytes, barrier);
      } else {
        copy_bulk(keys(stage), key, S::page_bytes, barrier);
        copy_bulk(values(stage), value, S::page_bytes, barrier);
      }
    }
#else
    if (exists) {
      for (int i = int(threadIdx.x % 32) * 16; i < S::page_bytes; i += 32 * 16) {
        copy_chunk(keys(stage) + i, key + i);
        copy_chunk(values(stage) + i, value + i);
      }
    }
    commit_copies();
#endif
  }
  // Until the page in `stage` is there: the n-th one it holds has parity n % 2. Every lane may read it then.
  __device__ void wait(int stage, uint32_t parity) {
#if __CUDA_ARCH__ >= 900
    wait_barrier(barriers_ + stage * 8, parity);
#else
    wait_copies<S::stages - 1>();
#endif
    __syncwarp();
  }

 private:
  uint32_t pages_, barriers_;
};

}  // namespace deltacal::kernels::cuda::paged_attention
