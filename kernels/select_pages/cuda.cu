// A block a row; a thread holds a few pages' keys in registers. Histograms close in on the last page chosen:
// as a rule one or two rounds, at most seven for the keys and two more among equal ones. What is left, the
// chosen pages and up to 256, is ranked by counting for each how many come before it. Bound by what every
// warp does alike, sums and barriers: rows of up to 2048 pages have blocks of half the size.
#include "kernels/cuda/device.cuh"
#include "kernels/select_pages/cuda.h"
#include "kernels/select_pages/cuda_order.h"

namespace deltacal::kernels::cuda::select_pages {
namespace {

constexpr int few = 256;

struct Shared {
  int bins[n_bins];
  int warp_sums[32];
  uint64_t least[32], most[32];
  int bin, more, in_bin;  // the last round's
  int n;                  // candidates so far
};

// The keys of a thread's pages: page threadIdx.x + threads i.
template <int threads, int a_thread>
struct Keys {
  uint64_t key[a_thread];
  __device__ static int page_at(int i) { return int(threadIdx.x) + threads * i; }
};

// Sum over the threads before this one and itself.
__device__ int block_scan(int x, Shared& s) {
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
#pragma unroll
  for (int offset = 1; offset < 32; offset *= 2) {
    const int other = __shfl_up_sync(all_lanes, x, offset);
    if (lane >= offset) x += other;
  }
  if (lane == 31) s.warp_sums[warp] = x;
  __syncthreads();
  return x + __reduce_add_sync(all_lanes, lane < warp ? s.warp_sums[lane] : 0);
}

// Over the warp, the upper halves first.
__device__ uint64_t lanes_least(uint64_t x) {
  const unsigned high = unsigned(x >> 32), least = __reduce_min_sync(all_lanes, high);
  return uint64_t(least) << 32 | __reduce_min_sync(all_lanes, high == least ? unsigned(x) : ~0u);
}

// The interval of all the row's older pages.
template <int threads, int a_thread>
__device__ Interval all_keys(const Keys<threads, a_thread>& keys, int older, int chosen, Shared& s) {
  uint64_t least = ~uint64_t(0), most = 0;
#pragma unroll
  for (int i = 0; i < a_thread; ++i) {
    if (keys.page_at(i) >= older) continue;
    least = keys.key[i] < least ? keys.key[i] : least;
    most = keys.key[i] > most ? keys.key[i] : most;
  }
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
  least = lanes_least(least), most = ~lanes_least(~most);
  if (lane == 0) s.least[warp] = least, s.most[warp] = most;
  __syncthreads();
  const bool there = lane < threads / 32;
  return interval_of(lanes_least(there ? s.least[lane] : ~uint64_t(0)),
                     ~lanes_least(there ? ~s.most[lane] : ~uint64_t(0)), chosen, older);
}

// One round: counts the keys that `in` says are of the interval by bins and narrows it to the bin of the last
// one needed. of(i): key of the thread's page i. All threads have the same interval, before and after.
template <int threads, int a_thread, class In, class Of>
__device__ void narrow(const Keys<threads, a_thread>& keys, Interval& interval, int older, const In& in,
                       const Of& of, Shared& s) {
  constexpr int bins = n_bins / threads;  // of a thread
#pragma unroll
  for (int k = 0; k < bins; ++k) s.bins[int(threadIdx.x) + threads * k] = 0;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < a_thread; ++i) {
    if (threads * i >= older) break;
    const bool counted = keys.page_at(i) < older && in(i);
    const unsigned lanes = __ballot_sync(all_lanes, counted);
    if (!counted) continue;
    const int bin = interval.bin(of(i));
    const unsigned same =
        __match_any_sync(lanes, bin);  // one addition for all lanes of a bin: most keys are alike
    if (int(threadIdx.x) % 32 == __ffs(int(same)) - 1) atomicAdd(&s.bins[bin], __popc(same));
  }
  __syncthreads();
  const int highest = n_bins - 1 - bins * int(threadIdx.x);  // of the thread: from the highest
  int own[bins], all = 0;
#pragma unroll
  for (int k = 0; k < bins; ++k) all += own[k] = s.bins[highest - k];
  int more = block_scan(all, s) - all;  // in the bins above
#pragma unroll
  for (int k = 0; k < bins; ++k) {
    if (more < interval.need && more + own[k] >= interval.need)
      s.bin = highest - k, s.more = more, s.in_bin = own[k];
    more += own[k];
  }
  __syncthreads();
  interval.narrow(s.bin, s.more, s.in_bin);
}

// The chosen pages, and at most the candidates there is room for: those not below (low, tie_low).
template <int threads, int a_thread>
__device__ int gather(const Keys<threads, a_thread>& keys, int older, uint64_t low, uint64_t tie_low,
                      Ranked* candidates, Shared& s) {
  if (threadIdx.x == 0) s.n = 0;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < a_thread; ++i) {
    const int page = keys.page_at(i);
    if (page >= older) break;
    const uint64_t key = keys.key[i];
    if (key > low || (key == low && tie_key(page) >= tie_low)) candidates[atomicAdd(&s.n, 1)] = {key, page};
  }
  __syncthreads();
  return s.n;
}

// The first `chosen` of n candidates into list, each to its rank. Several threads count for one candidate
// where there are enough.
template <int threads>
__device__ void rank(const Ranked* candidates, int n, int chosen, int32_t* list) {
  int share = 32;
  while (share > 1 && share * n > threads) share /= 2;
  const int part = int(threadIdx.x) % share, step = threads / share;
  for (int base = 0; base < n; base += step) {
    const int at = base + int(threadIdx.x) / share;
    const Ranked own = candidates[at < n ? at : 0];
    int before = 0;
    for (int i = part; i < n; i += share) before += ranks_before(candidates[i], own);
    for (int offset = share / 2; offset > 0; offset /= 2)
      before += __shfl_xor_sync(all_lanes, before, offset);
    if (at < n && part == 0 && before < chosen) list[before] = own.page;
  }
}

template <int threads, int a_thread>
__global__ void __launch_bounds__(threads) select(const Params p) {
  __shared__ Shared s;
  DELTACAL_DYNAMIC_SHARED(char, memory);
  Ranked* candidates = reinterpret_cast<Ranked*>(memory);  // [room]
  const int r = int(blockIdx.x), room = max(few, p.k_pages - p.l_pages), length = p.length[r];
  wait_for_previous();
  let_next_start();
  int32_t* list = p.list + size_t(r) * size_t(p.k_pages);
  const int pages = length > 0 ? pages_for(length) : 0;
  const int recent = min(p.l_pages, pages), older = pages - recent, chosen = min(p.k_pages - recent, older);
  for (int i = int(threadIdx.x); i < p.k_pages; i += threads) {
    if (i < recent) list[i] = pages - 1 - i;
    if (i >= recent + max(chosen, 0)) list[i] = -1;
  }
  if (chosen <= 0) return;

  Keys<threads, a_thread> keys;
  const float* score = p.score + size_t(r) * size_t(p.score_stride);
#pragma unroll
  for (int i = 0; i < a_thread; ++i) {
    const int page = keys.page_at(i);
    keys.key[i] = page < older ? key_of(score[page], p.position_bias, page) : 0;
  }
  Interval interval = all_keys(keys, older, chosen, s);
  while (interval.width > 0 && interval.above + interval.count > room) {
    narrow(
        keys, interval, older, [&](int i) { return interval.holds(keys.key[i]); },
        [&](int i) { return keys.key[i]; }, s);
  }
  Interval ties = interval;
  ties.low = tie_key(max_pages - 1), ties.width = 13;
  const bool many_equal = interval.width == 0 && interval.above + interval.count > room;
  while (many_equal && ties.above + ties.count > room) {
    narrow(
        keys, ties, older,
        [&](int i) { return keys.key[i] == interval.low && ties.holds(tie_key(keys.page_at(i))); },
        [&](int i) { return tie_key(keys.page_at(i)); }, s);
  }
  const int n = gather(keys, older, interval.low, many_equal ? ties.low : 0, candidates, s);
  rank<threads>(candidates, n, chosen, list + recent);
}
static_assert(max_pages == 1 << 13);

}  // namespace

void run(const Params& p, const Launch& launch) {
  constexpr const char* kernel = "select_pages";
  require(p.n_rows >= 0, kernel, "n_rows", p.n_rows, "at least 0");
  require(p.l_pages >= 1, kernel, "l_pages", p.l_pages, "at least 1");
  require(p.k_pages >= p.l_pages, kernel, "k_pages", p.k_pages,
          "at least l_pages = " + std::to_string(p.l_pages) + " (K includes L)");
  require(p.position_bias >= 0 && p.position_bias <= 1.7976931348623157e308, kernel, "position_bias",
          std::to_string(p.position_bias), "a finite number, at least 0");
  if (p.n_rows == 0) return;
  require_pointer(kernel, "length", p.length);
  require_pointer(kernel, "list", p.list);
  const int from_score = p.k_pages - p.l_pages;
  if (from_score > 0) {
    require_pointer(kernel, "score", p.score);
    require(p.score_stride >= 1 && p.score_stride <= max_pages, kernel, "score_stride", p.score_stride,
            "1 to " + std::to_string(max_pages) + " pages a row: there is no kernel for more");
  }
  const size_t room = size_t(from_score > few ? from_score < max_pages ? from_score : max_pages : few);
  const bool short_rows = p.score_stride <= 512 * 4;
  launch_kernel(kernel, short_rows ? select<512, 4> : select<1024, 8>, dim3(unsigned(p.n_rows)),
                short_rows ? 512 : 1024, room * sizeof(Ranked), launch, p);
}

}  // namespace deltacal::kernels::cuda::select_pages
