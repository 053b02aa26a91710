// A weight read once, 2 bytes a number: bound by memory. Rings of copies are filled while the kernel before
// ends, for nothing of the weight waits for it. Up to eight rows a block an SM, all with an even share of the
// bytes but where the weight is small (cuda_plan.h), multiplies by mma.sync (cuda_ring.cuh). On sm_90 more
// rows, and large weights, go by box copies and wgmma (cuda_boxes.cuh). At both ends instructions come from
// memory too, for the kernels of a step do not fit the instruction cache together: what runs once is to be
// short.
#include <map>
#include <mutex>

#include "kernels/linear/cuda_boxes.cuh"
#include "kernels/linear/cuda_ring.cuh"
#include "kernels/linear/cuda_sums.cuh"

namespace deltacal::kernels::cuda::linear {
namespace {

template <class T, class S>
__global__ void __launch_bounds__(n_threads, 1)
    multiply_few_rows(const __grid_constant__ Params p, const __grid_constant__ Plan plan,
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

void check(const Params& p) {
  constexpr const char* kernel = "linear";
  require(p.n >= 8 && p.n % 8 == 0 && p.n <= (1 << 24), kernel, "n", p.n, "a multiple of 8, 8 to 2^24");
  require(p.k >= 8 && p.k % 8 == 0 && p.k <= (1 << 24), kernel, "k", p.k, "a multiple of 8, 8 to 2^24");
  require(long(p.n) * p.k <= (1L << 37), kernel, "n", p.n, "less: n * k is too large");
  require_type(kernel, "type", p.type);
  require_aligned(kernel, "x", p.x, 16);
  require_aligned(kernel, "weight", p.weight, 16);
  require_aligned(kernel, "out", p.out, 16);
  require_aligned(kernel, "workspace", p.workspace, 256);
  require(p.n_rows <= max_rows(), kernel, "n_rows", p.n_rows, "at most " + std::to_string(max_rows()));
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
  launch_kernel("linear", multiply_few_rows<T, S>, dim3(unsigned(plan.n_blocks)), n_threads,
                size_t(WeightRing<S>::shared_bytes(current_device().capability)), launch, p, plan,
                lay_out(p.workspace));
}

// The inputs are few enough that every block reads all of them: of a small weight a block has a tile, whole,
// and of a very small one it is better that fewer blocks have more.
template <class T>
void start_with_few_rows(const Params& p, const Launch& launch) {
  const int rows = p.gated ? 2 * p.n : p.n, n = blocks();
  if (rows <= 16 * n && p.k > 4096)
    start<T, Stage<1, 1, 128>, true>(p, launch);
  else if (rows <= 32 * n)
    start<T, Stage<2, 1, 128>, true>(p, launch);
  else if (rows <= 48 * n)
    start<T, Stage<3, 1, 64>, true>(p, launch);
  else if (rows <= 64 * n)
    start<T, Stage<2, 2, 128>, true>(p, launch);
  else if (rows <= 256 * n)
    start<T, Stage<2, 4, 128>>(p, launch);
  else
    start<T, Stage<2, 8, 128>>(p, launch);
}

Clusters read_clusters() {
  Clusters c;
  for (int i = 0; i < Clusters::n_sizes; ++i)
    c.at_a_time[i] = clusters_at_a_time("linear", multiply_boxes<bf16, 64>, 1 << i,
                                        2 * BoxPlan::max_tile_rows, size_t(BoxRing::room));
  return c;
}
// Of the current device; asked of the runtime once a device.
const Clusters& clusters() {
  static std::mutex mutex;
  static std::map<int, Clusters> known;
  const std::lock_guard lock(mutex);
  const int id = current_device().id;
  const auto found = known.find(id);
  return found != known.end() ? found->second : known.emplace(id, read_clusters()).first->second;
}

BoxPlan box_plan(const Params& p) {
  return plan_boxes(p.gated ? 2 * p.n : p.n, p.k, clusters());
}
// A MB a block or more, of tiles that it has for itself: for few rows boxes begin and end slower, but take 3%
// less time for what lies between (H200, 7B gate and up: 66 us instead of 69; 1.5B, 0.4 MB: 15 instead of
// 14).
bool is_large(const Params& p) {
  return size_t(p.gated ? 2 : 1) * size_t(p.n) * size_t(p.k) * 2 >= size_t(blocks()) << 20 &&
         box_plan(p).cluster() == 1;
}
template <class T, int x_rows>
void start_boxes(const Params& p, const Launch& launch) {
  const BoxPlan plan = box_plan(p);
  const BoxRing ring(plan, x_rows);
  launch_clusters("linear", multiply_boxes<T, x_rows>, dim3(unsigned(plan.cluster() * plan.n_clusters)),
                  plan.cluster(), 128 * plan.warpgroups(), size_t(ring.shared_bytes()), launch, p, plan, ring,
                  weight_map(p, plan.tile_rows), x_map(p, x_rows));
}

template <class T>
void start_with_type(const Params& p, const Launch& launch) {
  if (p.n_rows <= few_rows && !(current_device().capability >= 90 && is_large(p)))
    start_with_few_rows<T>(p, launch);
  else if (p.n_rows <= 16)
    start_boxes<T, 16>(p, launch);
  else if (p.n_rows <= 32)
    start_boxes<T, 32>(p, launch);
  else
    start_boxes<T, 64>(p, launch);
}

}  // namespace

int max_rows() {
  return current_device().capability >= 90 ? 64 : few_rows;
}

size_t workspace_bytes() {  // two parts a block, of a tile of at most 256 rows
  return max_blocks * sizeof(int) + 2 * size_t(blocks()) * 256 * 8 * sizeof(float);
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
