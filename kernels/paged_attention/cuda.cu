// A block an SM, all resident at once, that share the pages of all rows evenly (cuda_plan.h). Each
// warp streams its own pages through its own ring by bulk copies and keeps its own running softmax: no
// barrier in the inner loop. At the end of an item the warps' states are merged in shared memory, and by the
// last block the parts of an item that several blocks share. Reads 4 x head_dim bytes a key and key/value
// head: bound by memory. Tensor cores have four times the time they need, with heads padded to 16.
#include "kernels/cuda/arrival.cuh"
#include "kernels/paged_attention/cuda_merge.cuh"

namespace deltacal::kernels::cuda::paged_attention {
namespace {

// A tile's queries on their way to shared memory: what a thread takes of them.
template <int D>
struct QueryCopy {
  static constexpr int n_threads = Shared<D>::n_warps * 32, chunks = D / chunk_elements,
                       n = divide_up(tile_heads * chunks, n_threads);
  uint4 x[n];

  // Zeros for rows past the tile's heads.
  __device__ void load(const Params& p, const Item& item) {
    const char* q = static_cast<const char*>(p.q) + (long(item.row) * p.q_stride + long(item.head) * D) * 2;
#pragma unroll
    for (int k = 0; k < n; ++k) {
      const int i = int(threadIdx.x) + n_threads * k, h = i / chunks;
      x[k] = make_uint4(0, 0, 0, 0);
      if (h < item.n_heads) x[k] = *reinterpret_cast<const uint4*>(q + h * D * 2 + i % chunks * 16);
    }
  }
  // Swizzled like keys.
  __device__ void store(char* buffer) const {
#pragma unroll
    for (int k = 0; k < n; ++k) {
      const int i = int(threadIdx.x) + n_threads * k, h = i / chunks;
      if (h < tile_heads)
        *reinterpret_cast<uint4*>(buffer + h * D * 2 + (i % chunks ^ swizzle(D, h)) * 16) = x[k];
    }
  }
};

// So many registers a thread that a small block of the next kernel, which waits for this one to end, fits
// beside one of these.
template <int D>
constexpr int registers = D <= 128 ? 192 : 255;

// keeps: with Params::logits.
template <class T, int D, bool keeps>
__global__ void __maxnreg__(registers<D>) attend(const __grid_constant__ Params p, const Workspace workspace,
                                                 const Bursts bursts, const int n_blocks) {
  using S = Shared<D>;
  DELTACAL_DYNAMIC_SHARED(char, shared);
  const int warp = int(threadIdx.x) / 32, block = int(blockIdx.x);
  Ring<D> ring(shared_address(shared));
  ring.init();
  __syncthreads();
  const auto start = [] { wait_for_previous(), let_next_start(); };
  if (!p.early) start();

  const Work work(p);
  const Range range = range_of_block(work, block, n_blocks, S::n_warps);
  if (range.begin >= range.end) {
    if (p.early) start();  // or this kernel might end before the one before it
    return;
  }
  Places<S::n_warps> places(work, range);
  // Queries are asked for behind half a ring of pages: behind a full one of every block they would take as
  // long as all of that, 5 us, and no page can be used without them.
  const unsigned first = ~places.last_pages() & ((1u << S::stages / 2) - 1);
#pragma unroll 1
  for (int j = 0; j < S::stages; ++j)
    if (first >> j & 1) ring.issue(p.kv, j, places.block(j, 0), places.exists(j));
  Cursor cursor = range.at;
  Item item = Item::at(work, cursor, range.begin);
  if (p.early) start();
  QueryCopy<D> query_copy;
  query_copy.load(p, item);
#pragma unroll 1
  for (int j = 0; j < S::stages; ++j)
    if (!(first >> j & 1)) ring.issue(p.kv, j, places.block(j, 0), places.exists(j));

  const float scale = p.scale * log2_e;
  const int group = p.n_heads / p.kv.n_kv_heads;
  const BurstPlan plan(bursts, divide_up(range.end - range.begin, S::n_warps));
  TileQueries<T, D> queries;
  State<D> state;
  int j = 0, stage = 0;
  uint32_t parity = 0;
  for (int unit = range.begin; unit < range.end;) {
    if (unit != range.begin) {
      work.advance(cursor, unit);
      item = Item::at(work, cursor, unit);
      query_copy.load(p, item);
    }
    const int end = min(item.end, range.end);
    query_copy.store(shared + S::buffer);
    __syncthreads();
    queries.load(shared_address(shared) + S::buffer);
    state.clear();
    const size_t kv_row = size_t(item.row) * size_t(p.kv.n_kv_heads) + size_t(item.kv_head);
    const Records records(p.logits, kv_row, group, item.in_group);
#pragma unroll 1
    for (; range.begin + warp + S::n_warps * j < end; ++j) {
      const int page = places.page(j);
      ring.wait(stage, parity);
      attend_page<T, D, keeps>(queries, ring.keys(stage), ring.values(stage), scale,
                               min(page_size, item.length - page * page_size), records, page, item.n_heads,
                               state);
      __syncwarp();
      ring.issue(p.kv, stage, places.block(j + S::stages, j), places.exists(j + S::stages),
                 !keeps || !plan.drains(j));
      places.done(j);
      if (++stage == S::stages) stage = 0, parity ^= 1;
    }
    const Blocks blocks = blocks_of(item.first, item.end, range.chunk);
    const bool whole = blocks.first == blocks.last;
    merge_warps<T, D>(p, item, whole, workspace, part_slot(block, item.first, range.chunk), shared, state);
    if (!whole && last_to_arrive(workspace.arrived + item.row * work.tiles + item.tile,
                                 blocks.last - blocks.first + 1, reinterpret_cast<int*>(shared + S::flag)))
      merge_parts<T, D>(p, item, workspace, range.chunk, shared);
    unit = end;
  }
}

int tiles_of(int n_heads, const PagedKv& kv) {
  return kv.n_kv_heads * divide_up(n_heads / kv.n_kv_heads, tile_heads);
}

// Parts first: their size does not depend on the number of rows.
Workspace lay_out(void* memory, int n_blocks, int head_dim) {
  Workspace w;
  const size_t rows = 2 * size_t(n_blocks) * tile_heads;
  w.out = static_cast<float*>(memory);
  w.sums = reinterpret_cast<float2*>(w.out + rows * size_t(head_dim));
  w.arrived = reinterpret_cast<int*>(w.sums + rows);
  return w;
}

void check(const Params& p) {
  constexpr const char* kernel = "paged_attention";
  check_cache(kernel, p.kv, p.n_heads);
  require(p.scale > 0, kernel, "scale", std::to_string(p.scale), "more than 0");
  require_aligned(kernel, "q", p.q, 16);
  require(p.q_stride % chunk_elements == 0, kernel, "q_stride", p.q_stride, "a multiple of 8");
  require_pointer(kernel, "length", p.length);
  require_aligned(kernel, "out", p.out, 16);
  require_aligned(kernel, "workspace", p.workspace, 256);
  require(p.list == nullptr || p.list_stride >= 1, kernel, "list_stride", p.list_stride, "at least 1");
  require(p.list == nullptr || p.list_length != nullptr || p.k_pages <= p.list_stride, kernel, "k_pages",
          p.k_pages, "at most list_stride = " + std::to_string(p.list_stride));
  require(p.list == nullptr || p.list_length != nullptr || p.k_pages != 0, kernel, "k_pages", p.k_pages,
          "at least 1, or -1 for all pages");
  require(long(p.n_rows) * tiles_of(p.n_heads, p.kv) * p.kv.max_pages < (1L << 30), kernel, "n_rows",
          p.n_rows, "fewer: n_rows * kv.n_kv_heads * kv.max_pages must be below 2^30");
  if (p.logits.records == nullptr) return;
  require(p.list == nullptr, kernel, "logits", std::string("given"), "null where rows have lists");
  require_aligned(kernel, "logits.records", p.logits.records, 32);
  require_pointer(kernel, "logits.lse2", p.logits.lse2);
  require(p.logits.max_pages >= 1, kernel, "logits.max_pages", p.logits.max_pages, "at least 1");
}

template <class T, bool keeps>
auto kernel_of(int head_dim) {
  return head_dim == 64    ? attend<T, 64, keeps>
         : head_dim == 96  ? attend<T, 96, keeps>
         : head_dim == 128 ? attend<T, 128, keeps>
                           : attend<T, 256, keeps>;
}

auto kernel_of(const Params& p) {
  const int d = p.kv.head_dim;
  const bool keeps = p.logits.records != nullptr;
  if (p.kv.type == Type::bf16) return keeps ? kernel_of<bf16, true>(d) : kernel_of<bf16, false>(d);
  return keeps ? kernel_of<f16, true>(d) : kernel_of<f16, false>(d);
}

Bursts bursts_of_call(const Params& p, int n_blocks, int n_warps) {
  if (p.logits.records == nullptr) return {};
  const int group = p.n_heads / p.kv.n_kv_heads, tiles = divide_up(group, tile_heads);
  return bursts_of(current_device().l2_bytes, n_blocks * n_warps, record_bytes(group) / tiles,
                   page_size * p.kv.head_dim * 4);
}

int warps_of(int head_dim) {
  return head_dim <= 128 ? Shared<128>::n_warps : Shared<256>::n_warps;
}

int shared_of(int head_dim) {
  return head_dim == 64    ? Shared<64>::bytes
         : head_dim == 96  ? Shared<96>::bytes
         : head_dim == 128 ? Shared<128>::bytes
                           : Shared<256>::bytes;
}

}  // namespace

size_t workspace_bytes(int n_rows, int n_heads, const PagedKv& kv) {
  check_cache("paged_attention", kv, n_heads);
  const Workspace w = lay_out(nullptr, current_device().n_sms, kv.head_dim);
  return reinterpret_cast<size_t>(w.arrived + size_t(n_rows) * size_t(tiles_of(n_heads, kv)));
}

void run(const Params& params, const Launch& launch) {
  require(params.n_rows >= 0, "paged_attention", "n_rows", params.n_rows, "at least 0");
  if (params.n_rows == 0) return;
  check(params);
  Params p = params;
  const int d = p.kv.head_dim;
  const int n_blocks = current_device().n_sms;
  if (p.q_stride == 0) p.q_stride = long(p.n_heads) * d;
  p.early = p.early && launch.overlap && current_device().capability >= 90;
  launch_kernel("paged_attention", kernel_of(p), dim3(unsigned(n_blocks)), 32 * warps_of(d),
                size_t(shared_of(d)), launch, p, lay_out(p.workspace, n_blocks, d),
                bursts_of_call(p, n_blocks, warps_of(d)), n_blocks);
}

}  // namespace deltacal::kernels::cuda::paged_attention
