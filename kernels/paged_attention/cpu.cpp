// Chunks of 256 keys: logits by a register-blocked product, their softmax under the chunk's own maximum, the
// product with the values, and a merge into the row's running (max, sum, out), in the order of the chunks. A
// work item is one key/value head and a tile of rows that share their pages; where items are too few or too
// uneven for the threads, the chunks of an item are spread too, and merged in the same order: the same
// arithmetic, hence the same bits. Decoding reads 2 x head_dim elements a key and key/value head:
// memory-bound. Prefill is bound by multiply-adds.
#include "kernels/simd/targets.h"

// foreach_target.h includes this file once for each instruction set; what follows it belongs to each of them.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/paged_attention/cpu.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include "kernels/paged_attention/state.h"
#include "kernels/simd/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace deltacal::kernels::HWY_NAMESPACE {

template <class T>
void attend_typed(const Queries& queries, const Chunk& chunk, float* p, const paged_attention::State& state) {
  chunk_softmax<T>(queries, chunk, p, state.max, state.sum);
  chunk_values<T>(queries, chunk, p, state.out);
}

void attend_chunk(const paged_attention::Item& item, const Chunk& chunk, float* p,
                  const paged_attention::State& state) {
  const Queries queries{item.q, item.n_queries, item.per_row, item.last_keys, item.head_dim};
  if (item.type == KvType::f32) {
    attend_typed<float>(queries, chunk, p, state);
  } else {
    attend_typed<bf16>(queries, chunk, p, state);
  }
}

// into = into merged with the chunk after it.
void merge(int n_queries, int head_dim, const paged_attention::State& into,
           const paged_attention::State& from) {
  const F f;
  for (int i = 0; i < n_queries; ++i) {
    const bool higher = from.max[i] > into.max[i];
    const float e = exp2_of(higher ? into.max[i] - from.max[i] : from.max[i] - into.max[i]);
    const V keep = hn::Set(f, higher ? e : 1.0f), add = hn::Set(f, higher ? 1.0f : e);
    into.sum[i] =
        hn::GetLane(hn::MulAdd(keep, hn::Set(f, into.sum[i]), hn::Mul(add, hn::Set(f, from.sum[i]))));
    into.max[i] = higher ? from.max[i] : into.max[i];
    float* HWY_RESTRICT out = into.out + size_t(i) * size_t(head_dim);
    const float* HWY_RESTRICT other = from.out + size_t(i) * size_t(head_dim);
    for (int d = 0; d < head_dim; d += kLanes) {
      hn::StoreU(hn::MulAdd(keep, load(out + d), hn::Mul(add, load(other + d))), f, out + d);
    }
  }
}

}  // namespace deltacal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <hwy/aligned_allocator.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/paged_attention/paged_attention.h"
#include "kernels/simd/pack.h"

namespace deltacal::kernels {
HWY_EXPORT(attend_chunk);
HWY_EXPORT(merge);
}  // namespace deltacal::kernels

namespace deltacal::kernels::paged_attention {
namespace {

using Buffer = hwy::AlignedFreeUniquePtr<float[]>;
constexpr int max_tile_queries = 96;  // their logits and outputs stay in the second-level cache

// The call as tiles and key/value heads, heaviest first within a head, heads one after the other (their keys
// and values then stay in the cache while their tiles are worked on).
struct Plan {
  explicit Plan(const Params& params) : p(params), group(p.n_heads / p.kv.n_kv_heads) {
    tiles = tiles_of(p.n_rows, std::clamp(max_tile_queries / group, 1, page_size), p.sequence, p.length,
                     p.list, p.list_length, p.list_stride);
    std::stable_sort(tiles.begin(), tiles.end(),
                     [](const Tile& a, const Tile& b) { return work(a) > work(b); });
    for (const Tile& tile : tiles) max_rows = std::max(max_rows, tile.n_rows);
  }
  static long work(const Tile& tile) { return long(tile.n_rows) * tile.n_pages; }
  int n_items() const { return int(tiles.size()) * p.kv.n_kv_heads; }
  const Tile& tile(int item) const { return tiles[size_t(item) % tiles.size()]; }
  int kv_head(int item) const { return item / int(tiles.size()); }
  int max_queries() const { return max_rows * group; }
  size_t state_floats() const { return size_t(max_queries()) * size_t(p.kv.head_dim + 2); }

  // Whole items would leave threads waiting for the longest one.
  bool must_split(int n_threads) const {
    long total = 0;
    for (const Tile& t : tiles) total += work(t);
    return n_threads > 1 && tiles[0].n_chunks() > 1 &&
           work(tiles[0]) * n_threads * 8 > total * p.kv.n_kv_heads;
  }

  const Params& p;
  int group;
  int max_rows = 1;
  std::vector<Tile> tiles;
};

State state_at(float* memory, const Plan& plan) {
  const size_t n = size_t(plan.max_queries());
  return {memory, memory + n, memory + 2 * n};
}

// What one thread works with: the packed queries of its item and the probabilities of a chunk.
class Worker {
 public:
  explicit Worker(const Plan& plan)
      : plan_(plan),
        queries_(hwy::AllocateAligned<float>(size_t(plan.max_queries()) * size_t(plan.p.kv.head_dim))),
        p_(hwy::AllocateAligned<float>(size_t(plan.max_queries()) * chunk_keys)),
        partial_(hwy::AllocateAligned<float>(plan.state_floats())) {}

  void take(int item) {
    if (item == current_) return;
    current_ = item;
    const Params& p = plan_.p;
    const Tile& tile = plan_.tile(item);
    pack_queries(p.q, p.n_heads, p.kv.head_dim, p.scale, tile, plan_.kv_head(item), plan_.group,
                 queries_.get());
    last_page_keys(p.length, tile, last_keys_);
    item_ = {queries_.get(), tile.n_rows * plan_.group, plan_.group, last_keys_, p.kv.head_dim, p.kv.type};
  }

  void attend(int chunk, const State& state) {
    const Chunk c =
        chunk_of(plan_.p.kv, plan_.tile(current_), plan_.kv_head(current_), chunk, Reads::keys_and_values);
    HWY_DYNAMIC_DISPATCH(attend_chunk)(item_, c, p_.get(), state);
  }

  // Chunks one after the other into `state`.
  void attend_all(const State& state) {
    const State next = state_at(partial_.get(), plan_);
    attend(0, state);
    for (int c = 1; c < plan_.tile(current_).n_chunks(); ++c) {
      attend(c, next);
      HWY_DYNAMIC_DISPATCH(merge)(item_.n_queries, item_.head_dim, state, next);
    }
  }

 private:
  const Plan& plan_;
  Buffer queries_, p_, partial_;
  int last_keys_[page_size];
  int current_ = -1;
  Item item_;
};

// The state's quotients into the rows and heads of the item.
void finish(const Plan& plan, int item, const State& state) {
  const Params& p = plan.p;
  const Tile& tile = plan.tile(item);
  const size_t dim = size_t(p.kv.head_dim);
  for (int i = 0; i < tile.n_rows * plan.group; ++i) {
    const size_t row = size_t(tile.first_row + i / plan.group);
    const size_t head = row * size_t(p.n_heads) + size_t(plan.kv_head(item) * plan.group + i % plan.group);
    const float inverse = 1.0f / state.sum[i];
    for (size_t d = 0; d < dim; ++d) p.out[head * dim + d] = state.out[size_t(i) * dim + d] * inverse;
    if (p.lse)
      p.lse[head] = float(std::numbers::ln2 * (double(state.max[i]) + std::log2(double(state.sum[i]))));
  }
}

void run_items(const Plan& plan, std::vector<Worker>& workers) {
  std::vector<Buffer> states;
  for (size_t i = 0; i < workers.size(); ++i)
    states.push_back(hwy::AllocateAligned<float>(plan.state_floats()));
#pragma omp parallel for schedule(dynamic) num_threads(int(workers.size()))
  for (int item = 0; item < plan.n_items(); ++item) {
    const size_t thread = size_t(omp_get_thread_num());
    const State state = state_at(states[thread].get(), plan);
    workers[thread].take(item);
    workers[thread].attend_all(state);
    finish(plan, item, state);
  }
}

void run_chunks(const Plan& plan, std::vector<Worker>& workers) {
  std::vector<std::pair<int, int>> work;  // item, chunk
  std::vector<int> first(size_t(plan.n_items()));
  for (int item = 0; item < plan.n_items(); ++item) {
    first[size_t(item)] = int(work.size());
    for (int c = 0; c < plan.tile(item).n_chunks(); ++c) work.emplace_back(item, c);
  }
  const Buffer memory = hwy::AllocateAligned<float>(work.size() * plan.state_floats());
  const auto state = [&](int w) { return state_at(memory.get() + size_t(w) * plan.state_floats(), plan); };
#pragma omp parallel num_threads(int(workers.size()))
  {
    Worker& worker = workers[size_t(omp_get_thread_num())];
#pragma omp for schedule(dynamic)
    for (int w = 0; w < int(work.size()); ++w) {
      worker.take(work[size_t(w)].first);
      worker.attend(work[size_t(w)].second, state(w));
    }
#pragma omp for schedule(dynamic)
    for (int item = 0; item < plan.n_items(); ++item) {
      const Tile& tile = plan.tile(item);
      const int w = first[size_t(item)];
      for (int c = 1; c < tile.n_chunks(); ++c) {
        HWY_DYNAMIC_DISPATCH(merge)(tile.n_rows * plan.group, plan.p.kv.head_dim, state(w), state(w + c));
      }
      finish(plan, item, state(w));
    }
  }
}

}  // namespace

void cpu(const Params& p) {
  check(p);
  if (p.n_rows == 0) return;
  const Plan plan(p);
  const int n_threads = omp_get_max_threads();
  std::vector<Worker> workers;
  workers.reserve(size_t(n_threads));
  for (int i = 0; i < n_threads; ++i) workers.emplace_back(plan);
  if (plan.must_split(n_threads)) {
    run_chunks(plan, workers);
  } else {
    run_items(plan, workers);
  }
}

}  // namespace deltacal::kernels::paged_attention
#endif
