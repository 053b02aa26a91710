// A block an SM; all share the weight's bytes evenly (cuda_plan.h). Nothing of the weight waits for the
// kernel before: the ring (cuda_ring.cuh) is filled while that one ends. Reads 2 bytes a weight: bound by
// memory. At both ends instructions come from memory too, for the kernels of a step do not fit the
// instruction cache together: what runs once is to be short.
#include "kernels/linear/cuda_ahead.cuh"
#include "kernels/linear/cuda_ring.cuh"
#include "kernels/linear/cuda_sums.cuh"

namespace deltacal::kernels::cuda::linear {
namespace {

template <class T, class S>
__global__ void __launch_bounds__(n_threads, 1)
    multiply_rows(const __grid_constant__ Params p, const __grid_constant__ Plan plan,
                  const Workspace workspace) {
  DELTACAL_DYNAMIC_SHARED(char, shared);
  const int begin = plan.begin(int(blockIdx.x)), n_units = plan.begin(int(blockIdx.x) + 1) - begin;
  WeightRing<S> ring(p, plan, begin, n_units, shared);
  int* flag = reinterpret_cast<int*>(shared + WeightRing<S>::bytes);
  ring.start();
  let_next_start();
  wait_for_previous();

  const int warp = int(threadIdx.x) / 32, column_warp = warp / S::row_warps;
  int tile = begin / plan.tile_units, unit = begin % plan.tile_units;
  Columns columns(p, plan, unit, column_warp);
  Inputs<S> inputs(p);
  inputs.load(columns);
  Fragment sum[S::fragments] = {};
#pragma unroll 1
  for (int s = 0; s < n_units; ++s) {
    const bool last = s == n_units - 1;
    if (++unit == plan.tile_units) unit = 0;
    Columns next(p, plan, unit, column_warp);
    if (last) next.n = 0;
    ring.wait();
    if (last) ask_ahead(p.ahead);
    const char* weight = ring.stage() + warp * S::warp_bytes;
    if (columns.n == S::segment)
      multiply<T, S, true>(weight, columns.n, inputs, next, sum);
    else
      multiply<T, S, false>(weight, columns.n, inputs, next, sum);
    if (unit == 0 || last) {
      finish_tile<T, S>(p, plan, workspace, begin, begin + n_units, tile, sum, ring.stage(), flag);
#pragma unroll
      for (int f = 0; f < S::fragments; ++f) sum[f][0] = sum[f][1] = sum[f][2] = sum[f][3] = 0;
      ++tile;
    }
    ring.next();
    columns = next;
  }
}

void check(const Ahead& a) {
  constexpr const char* kernel = "linear";
  require_aligned(kernel, "ahead.data", a.data, 16);
  require(a.size % 16 == 0, kernel, "ahead.size", long(a.size), "a multiple of 16");
  require(a.bytes % 16 == 0 && a.bytes <= a.size, kernel, "ahead.bytes", long(a.bytes),
          "a multiple of 16, at most size");
}

void check(const Params& p) {
  constexpr const char* kernel = "linear";
  require(p.n_rows <= max_rows, kernel, "n_rows", p.n_rows, "at most " + std::to_string(max_rows));
  require(p.n >= 8 && p.n % 8 == 0 && p.n <= (1 << 24), kernel, "n", p.n, "a multiple of 8, 8 to 2^24");
  require(p.k >= 8 && p.k % 8 == 0 && p.k <= (1 << 24), kernel, "k", p.k, "a multiple of 8, 8 to 2^24");
  require(long(p.n) * p.k <= (1L << 37), kernel, "n", p.n, "less: n * k is too large");
  require(p.type == Type::bf16 || p.type == Type::f16, kernel, "type", long(p.type), "bf16 or f16");
  require_aligned(kernel, "x", p.x, 16);
  require_aligned(kernel, "weight", p.weight, 16);
  require_aligned(kernel, "out", p.out, 16);
  require_aligned(kernel, "workspace", p.workspace, 256);
  if (p.ahead.data) check(p.ahead);
}

int blocks() {
  const int n = current_device().n_sms;
  return n < max_blocks ? n : max_blocks;
}

Workspace lay_out(void* memory) {
  Workspace w;
  w.arrived = static_cast<int*>(memory);
  w.parts = reinterpret_cast<float4*>(w.arrived + max_blocks);
  return w;
}

template <class T, class S, bool whole = false>
void start(const Params& p, const Launch& launch) {
  const Plan plan = make_plan(divide_up(p.n, p.gated ? S::rows / 2 : S::rows), p.k, S::column_warps,
                              S::segment, blocks(), whole);
  launch_kernel("linear", multiply_rows<T, S>, dim3(unsigned(plan.n_blocks)), n_threads,
                size_t(WeightRing<S>::shared_bytes(current_device().capability)), launch, p, plan,
                lay_out(p.workspace));
}

// The inputs are few enough that every block reads all of them: of a small weight a block has a tile, whole,
// and of a very small one it is better that fewer blocks have more.
template <class T>
void start_with_few_rows(const Params& p, const Launch& launch) {
  const int rows = p.gated ? 2 * p.n : p.n, n = blocks();
  if (rows <= 16 * n && p.k > 4096)
    start<T, Stage<1, 1, 1, 128>, true>(p, launch);
  else if (rows <= 32 * n)
    start<T, Stage<1, 2, 1, 128>, true>(p, launch);
  else if (rows <= 64 * n)
    start<T, Stage<1, 2, 2, 128>, true>(p, launch);
  else if (rows <= 256 * n)
    start<T, Stage<1, 2, 4, 128>>(p, launch);
  else
    start<T, Stage<1, 2, 8, 128>>(p, launch);
}
// The taller the tiles, the fewer times the inputs are read; the more tiles, the fewer parts to add up.
template <class T>
void start_with_many_rows(const Params& p, const Launch& launch) {
  const int rows = p.gated ? 2 * p.n : p.n;
  if (rows >= 48 * 256)
    start<T, Stage<2, 2, 8, 128>>(p, launch);
  else if (rows >= 24 * 128)
    start<T, Stage<2, 2, 4, 128>>(p, launch);
  else
    start<T, Stage<2, 2, 2, 128>>(p, launch);
}

template <class T>
void start_with_type(const Params& p, const Launch& launch) {
  if (p.n_rows <= 8)
    start_with_few_rows<T>(p, launch);
  else
    start_with_many_rows<T>(p, launch);
}

}  // namespace

size_t workspace_bytes(int n_rows) {
  const size_t tiles = n_rows <= 8 ? 1 : 2;
  return max_blocks * sizeof(int) + 2 * size_t(blocks()) * 256 * 8 * tiles * sizeof(float);
}

void run(const Params& p, const Launch& launch) {
  require(p.n_rows >= 0, "linear", "n_rows", p.n_rows, "at least 0");
  if (p.n_rows == 0) return;
  check(p);
  if (p.type == Type::bf16)
    start_with_type<bf16>(p, launch);
  else
    start_with_type<f16>(p, launch);
}

}  // namespace deltacal::kernels::cuda::linear
