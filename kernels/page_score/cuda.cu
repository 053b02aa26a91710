// Each warp streams the records of its own pages through its own ring by bulk copies (cuda_ring.cuh): no
// barrier in the loop, and what is under way does not depend on how fast it is used. Four pages at a time,
// eight lanes each: lane 2 i + o of them has eight of the 16 keys of heads i, i + 4, ... Squaring is
// monotone, so the largest probability over the heads is taken among the roots. Reads 20 bytes a page and
// head, and padding: bound by memory, or by the second-level cache where the records still lie there.
#include <algorithm>

#include "kernels/page_score/cuda_ring.cuh"

namespace deltacal::kernels::cuda::page_score {
namespace {

constexpr int max_warps = 8, max_stages = 2;
// Blocks of an SM: as many as have room, for a small tile is done before much of it was under way.
constexpr int least_blocks = 2, most_blocks[2] = {4, 3};  // without masses, with

// Shared memory of a block, in bytes from its start.
struct Layout {
  int barriers, places, shift, mass, bytes;

  DELTACAL_HOST_DEVICE Layout(const Plan& plan, int n_heads, bool masses) {
    const int warps = plan.n_warps;
    barriers = warps * plan.stages * plan.stage_bytes;  // [n_warps, stages]
    places = barriers + warps * plan.stages * 8;        // [n_heads] int2
    shift = places + n_heads * 8;                       // [n_warps, n_heads]
    mass = shift + warps * n_heads * 4;                 // [n_warps, tile_pages, n_heads]
    bytes = mass + (masses ? warps * tile_pages * n_heads * 4 : 0);
  }
};

// What a warp needs of each head, in shared memory.
struct Heads {
  const int2* place;  // offsets of its roots and of its maximum, from the tile's first record of all
  float* shift;       // -log2 of the softmax's denominator, of the warp's row
  float* mass;        // [tile_pages, n_heads] the pages' sums
};

// The places, by all threads of the block.
__device__ void fill_heads(const Params& p, const Plan& plan, int2* place) {
  const int group = p.n_heads / p.n_kv_heads, record = record_bytes(group);
  for (int h = int(threadIdx.x); h < p.n_heads; h += plan.n_warps * 32) {
    const int first = h / group * tile_pages * record, in_group = h % group;
    place[h] = make_int2(first + in_group * page_size, first + group * page_size + in_group * 4);
  }
}

// Square roots of the probabilities of eight keys of one head, times root_steps. records: those of the lane's
// page. A byte b is made a float as 2^23 + b.
__device__ __forceinline__ void roots(const char* records, const Heads& heads, int h, float (&x)[8]) {
  const int2 place = heads.place[h];
  const uint2 packed = reinterpret_cast<const uint2*>(records + place.x)[threadIdx.x % 2];
  const float largest =
      exp2_fast(0.5f * (*reinterpret_cast<const float*>(records + place.y) + heads.shift[h]));
  const float base = -0x1p23f * largest;
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    const uint32_t word = __byte_perm(k < 4 ? packed.x : packed.y, 0x4b000000u, 0x7440u + unsigned(k % 4));
    x[k] = fmaf(__uint_as_float(word), largest, base);
  }
}

// The larger of each number and that of the lane `offset` away: of the first half in the lanes without that
// bit, of the second half in the others.
template <int n>
__device__ __forceinline__ void halve(float (&best)[8], int offset) {
  const bool second = threadIdx.x & unsigned(offset);
#pragma unroll
  for (int k = 0; k < n / 2; ++k) {
    const float own = second ? best[k + n / 2] : best[k], other = second ? best[k] : best[k + n / 2];
    best[k] = max_nan(own, __shfl_xor_sync(all_lanes, other, offset));
  }
}

// Score of the lane's page, by the eight lanes that share it. All lanes of the warp are there.
template <bool masses>
__device__ __forceinline__ float score_page(const Params& p, const char* records, const Heads& heads) {
  constexpr int at_once = 4;
  constexpr float of_square = 1 / (root_steps * root_steps);
  const int lane = int(threadIdx.x) % 32, page = lane / 8;
  float best[8];
#pragma unroll
  for (int k = 0; k < 8; ++k) best[k] = 0;
#pragma unroll 7
  for (int base = 0; base < p.n_heads; base += at_once) {
    const int h = base + lane / 2 % at_once;
    float sum = 0;
    if (h < p.n_heads) {
      float x[8];
      roots(records, heads, h, x);
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        best[k] = max_nan(best[k], x[k]);
        if (masses) sum += x[k] * x[k];
      }
    }
    if (masses) {
      sum = lanes_sum<2>(sum) * of_square;
      if (h < p.n_heads && lane % 2 == 0) heads.mass[page * p.n_heads + h] = sum;
    }
  }
  halve<8>(best, 2), halve<4>(best, 4);  // two keys a lane are left
  if (p.page == Page::sum) return lanes_sum<8>(best[0] * best[0] + best[1] * best[1]) * of_square;
  float largest = max_nan(best[0], best[1]);
#pragma unroll
  for (int offset = 1; offset < 8; offset *= 2)
    largest = max_nan(largest, __shfl_xor_sync(all_lanes, largest, offset));
  return largest * largest * of_square;
}

// The masses of one page from its sums for each head.
__device__ void write_masses(const Params& p, int r, int page, const float* mass) {
  const int lane = int(threadIdx.x) % 32, group = p.n_heads / p.n_kv_heads;
  float all = 0;
  for (int g = lane; g < p.n_kv_heads; g += 32) {
    float sum = 0;
    for (int h = g * group; h < (g + 1) * group; ++h) sum += mass[h];
    all += sum;
    if (p.group_mass)
      p.group_mass[(size_t(r) * size_t(p.n_kv_heads) + size_t(g)) * size_t(p.out_pages) + size_t(page)] =
          sum / float(group);
  }
  all = lanes_sum(all);
  if (p.mass && lane == 0) p.mass[size_t(r) * size_t(p.out_pages) + size_t(page)] = all / float(p.n_heads);
}

__device__ void write_no_masses(const Params& p, int r, int page) {
  const int lane = int(threadIdx.x) % 32;
  const size_t at = size_t(r) * size_t(p.out_pages) + size_t(page);
  if (p.mass && lane == 0) p.mass[at] = 0;
  for (int g = lane; p.group_mass && g < p.n_kv_heads; g += 32)
    p.group_mass[(size_t(r) * size_t(p.n_kv_heads) + size_t(g)) * size_t(p.out_pages) + size_t(page)] = 0;
}

// Everything of one tile whose records lie at `stage`.
template <bool masses>
__device__ void score_tile(const Params& p, const Tile& tile, const char* stage, int record,
                           const Heads& heads) {
  const int of_tile = int(threadIdx.x) % 32 / 8, page = tile.page + of_tile;
  const float score = score_page<masses>(p, stage + of_tile * record, heads);
  if (threadIdx.x % 8 == 0 && page < p.out_pages)
    p.score[size_t(tile.row) * size_t(p.out_pages) + size_t(page)] = page < tile.pages ? score : 0.0f;
  if (!masses) return;
  __syncwarp();
  for (int i = 0; i < tile_pages && tile.page + i < p.out_pages; ++i) {
    if (i < tile.seen()) {
      write_masses(p, tile.row, tile.page + i, heads.mass + i * p.n_heads);
    } else {
      write_no_masses(p, tile.row, tile.page + i);
    }
  }
}

template <bool masses>
__global__ void __launch_bounds__(max_warps * 32, most_blocks[masses])
    score(const __grid_constant__ Params p, const __grid_constant__ Plan plan) {
  DELTACAL_DYNAMIC_SHARED(char, memory);
  const Layout layout(plan, p.n_heads, masses);
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32,
            record = record_bytes(p.n_heads / p.n_kv_heads);
  Ring ring(plan, memory, memory + layout.barriers);
  ring.init();
  const int of_grid = int(blockIdx.x) * plan.n_warps + warp, begin = plan.first_tile(of_grid),
            end = plan.first_tile(of_grid + 1);
  Tile next(p, plan, begin), tile = next;
  int2* place = reinterpret_cast<int2*>(memory + layout.places);
  fill_heads(p, plan, place);
  __syncthreads();
  wait_for_previous();
  let_next_start();

  for (int s = 0; s < plan.stages && begin + s < end; ++s, next.advance(p, plan)) ring.issue(p, next, s);
  const Heads heads{place, reinterpret_cast<float*>(memory + layout.shift) + warp * p.n_heads,
                    reinterpret_cast<float*>(memory + layout.mass) + warp * tile_pages * p.n_heads};

  int stage = 0, row = -1;
  uint32_t parity = 0;
  for (int i = begin; i < end; ++i, tile.advance(p, plan)) {
    if (tile.row != row && tile.pages > 0) {
      row = tile.row;
      for (int h = lane; h < p.n_heads; h += 32)
        heads.shift[h] = -p.logits.lse2[size_t(row) * size_t(p.n_heads) + size_t(h)];
    }
    ring.wait(stage, parity);
    if (tile.pages > 0) score_tile<masses>(p, tile, ring.stage(stage), record, heads);
    __syncwarp();
    if (p.last_use) Span(p, tile, record).discard(p.n_kv_heads);
    if (i + plan.stages < end) {
      ring.issue(p, next, stage);
      next.advance(p, plan);
    }
    if (++stage == plan.stages) stage = 0, parity ^= 1;
  }
}

// As many warps and stages as leave room for least_blocks an SM: fewer where there are very many heads. Of a
// small call as few warps a block as leave no SM without one; fewer put two on some SMs (8 rows of 8K on an
// H200, 7 warps and 147 blocks for 8 and 128: 48.3 for 46.8 us of a Δ-layer).
Plan plan_of(const Params& p, bool masses) {
  const Device& device = current_device();
  Plan plan;
  plan.n_warps = max_warps, plan.stages = max_stages;
  plan.stage_bytes = p.n_kv_heads * tile_pages * record_bytes(p.n_heads / p.n_kv_heads);
  const auto bytes = [&] { return Layout(plan, p.n_heads, masses).bytes; };
  constexpr int reserved = 1024;  // of shared memory, by the device for each block
  const int of_sm = int(device.shared_a_block) + reserved, room = of_sm / least_blocks - reserved;
  while (bytes() > room && plan.n_warps * plan.stages > 1) --(plan.n_warps > 1 ? plan.n_warps : plan.stages);
  plan.tiles_a_row = divide_up(p.out_pages, tile_pages);
  plan.n_tiles = p.n_rows * plan.tiles_a_row;
  plan.n_warps = std::min(plan.n_warps, divide_up(plan.n_tiles, device.n_sms));
  plan.n_blocks =
      std::min(divide_up(plan.n_tiles, plan.n_warps),
               device.n_sms * std::clamp(of_sm / (bytes() + reserved), least_blocks, most_blocks[masses]));
  return plan;
}

}  // namespace

void run(const Params& p, const Launch& launch) {
  constexpr const char* kernel = "page_score";
  require(p.n_rows >= 0, kernel, "n_rows", p.n_rows, "at least 0");
  if (p.n_rows == 0) return;
  require(p.n_kv_heads >= 1, kernel, "n_kv_heads", p.n_kv_heads, "at least 1");
  require(p.n_heads >= 1 && p.n_heads <= 1024 && p.n_heads % p.n_kv_heads == 0, kernel, "n_heads", p.n_heads,
          "a multiple of n_kv_heads = " + std::to_string(p.n_kv_heads) + ", at most 1024");
  require_aligned(kernel, "logits.records", p.logits.records, 32);
  require_pointer(kernel, "logits.lse2", p.logits.lse2);
  require_pointer(kernel, "length", p.length);
  require_pointer(kernel, "score", p.score);
  require(p.out_pages >= 1, kernel, "out_pages", p.out_pages, "at least 1, and the pages of the longest row");
  require(long(p.n_rows) * p.out_pages < (1L << 30), kernel, "n_rows", p.n_rows,
          "fewer: n_rows * out_pages must be below 2^30");
  const bool masses = p.mass != nullptr || p.group_mass != nullptr;
  const Plan plan = plan_of(p, masses);
  launch_kernel(kernel, masses ? score<true> : score<false>, dim3(unsigned(plan.n_blocks)), plan.n_warps * 32,
                size_t(Layout(plan, p.n_heads, masses).bytes), launch, p, plan);
}

}  // namespace deltacal::kernels::cuda::page_score
