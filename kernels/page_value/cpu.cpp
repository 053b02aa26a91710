// Per chunk of 256 keys the probabilities under the chunk's own maximum; per page their sum, and the page's
// output sum of probability times value [head_dim], of which each gradient takes its product. One factor for
// each head and chunk then normalises. Bound by multiply-adds: 32 head_dim for a page, head and row, a third
// of them for the keys. Threads take a tile of rows and a key/value head.
#include "kernels/simd/targets.h"

// foreach_target.h includes this file once for each instruction set; what follows it belongs to each of them.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/page_value/cpu.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include "kernels/page_value/work.h"
#include "kernels/simd/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace deltacal::kernels::HWY_NAMESPACE {

HWY_INLINE float page_sum(const float* HWY_RESTRICT p) {
  const F f;
  V total = load(p);
  for (int v = 1; v < kPageVectors; ++v) total = hn::Add(total, load(p + v * kLanes));
  return hn::GetLane(hn::SumOfLanes(f, total));
}

HWY_INLINE float product(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, int n) {
  const F f;
  V total = hn::Zero(f);
  for (int d = 0; d < n; d += kLanes) total = hn::MulAdd(load(a + d), load(b + d), total);
  return hn::GetLane(hn::SumOfLanes(f, total));
}

// page_out[i][d] = sum over the page's keys of p * value; of the rows' last page each row takes its own keys.
template <class T>
void page_output(const page_value::ChunkValues& c, const Chunk& chunk, int page) {
  std::fill(c.page_out, c.page_out + size_t(c.n_queries) * size_t(c.head_dim), 0.0f);
  const float* p = c.p + page * page_size;
  if (page != chunk.partial) {
    values_rows<true, kQueries, T>(c.n_queries, p, chunk.values + page, 1, page_size, c.head_dim, c.page_out);
    return;
  }
  for (int i = 0; i < c.n_queries; i += c.per_row) {
    values_rows<false, kQueries, T>(c.per_row, p + i * chunk_keys, chunk.values + page, 1,
                                    c.last_keys[i / c.per_row], c.head_dim,
                                    c.page_out + size_t(i) * size_t(c.head_dim));
  }
}

template <class T>
void values_typed(const page_value::ChunkValues& c, const Chunk& chunk) {
  const Queries queries{c.q, c.n_queries, c.per_row, c.last_keys, c.head_dim};
  chunk_softmax<T>(queries, chunk, c.p, c.max, c.sum);
  const size_t dim = size_t(c.head_dim), n = size_t(c.n_queries);
  for (int page = 0; page < chunk.n_pages; ++page) {
    page_output<T>(c, chunk, page);
    for (size_t i = 0; i < n; ++i) {
      c.mass[i * c.page_stride + size_t(page)] = page_sum(c.p + i * chunk_keys + size_t(page) * page_size);
      for (size_t g = 0; g < size_t(c.n_gradients); ++g)
        c.value[g * c.gradient_stride + i * c.page_stride + size_t(page)] =
            product(c.page_out + i * dim, c.gradient + (g * n + i) * dim, c.head_dim);
    }
  }
}

void chunk_page_values(const page_value::ChunkValues& c, const Chunk& chunk) {
  if (c.type == KvType::f32) {
    values_typed<float>(c, chunk);
  } else {
    values_typed<bf16>(c, chunk);
  }
}

}  // namespace deltacal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <hwy/aligned_allocator.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/page_value/page_value.h"
#include "kernels/simd/pack.h"

namespace deltacal::kernels {
HWY_EXPORT(chunk_page_values);
}  // namespace deltacal::kernels

namespace deltacal::kernels::page_value {
namespace {

using Buffer = hwy::AlignedFreeUniquePtr<float[]>;

// What one thread works with.
class Worker {
 public:
  Worker(const Params& p, const std::vector<Tile>& tiles) : p_(p), group_(p.n_heads / p.kv.n_kv_heads) {
    size_t rows = 1, pages = 1;
    for (const Tile& t : tiles) {
      rows = std::max(rows, size_t(t.n_rows));
      pages = std::max(pages, size_t(t.n_chunks()) * chunk_pages);
    }
    const size_t queries = rows * size_t(group_), dim = size_t(p.kv.head_dim);
    stride_ = pages;
    q_ = hwy::AllocateAligned<float>(queries * dim);
    gradient_ = hwy::AllocateAligned<float>(size_t(p.n_gradients) * queries * dim);
    probabilities_ = hwy::AllocateAligned<float>(queries * chunk_keys);
    page_out_ = hwy::AllocateAligned<float>(queries * dim);
    max_ = hwy::AllocateAligned<float>(queries * pages / chunk_pages);
    sum_ = hwy::AllocateAligned<float>(queries * pages / chunk_pages);
    mass_ = hwy::AllocateAligned<float>(queries * pages);
    value_ = hwy::AllocateAligned<float>(size_t(p.n_gradients) * queries * pages);
  }

  void run(const Tile& tile, int g) {
    tile_ = &tile;
    g_ = g;
    n_queries_ = tile.n_rows * group_;
    pack_queries(p_.q, p_.n_heads, p_.kv.head_dim, p_.scale, tile, g, group_, q_.get());
    last_page_keys(p_.length, tile, last_keys_);
    for (int n = 0; n < p_.n_gradients; ++n)
      for (int i = 0; i < n_queries_; ++i)
        std::copy_n(p_.gradient + (gradient_row(n) + head(i)) * dim(), dim(),
                    gradient_.get() + size_t(n * n_queries_ + i) * dim());
    for (int c = 0; c < tile.n_chunks(); ++c) chunk(c);
    for (int i = 0; i < n_queries_; ++i) finish(i);
  }

 private:
  size_t dim() const { return size_t(p_.kv.head_dim); }
  size_t at(int chunk, int query) const { return size_t(chunk) * size_t(n_queries_) + size_t(query); }
  // Of the query's row and head among all of the call, and of a gradient's first one.
  size_t head(int query) const {
    return size_t(tile_->first_row + query / group_) * size_t(p_.n_heads) +
           size_t(g_ * group_ + query % group_);
  }
  size_t gradient_row(int n) const { return size_t(n) * size_t(p_.n_rows) * size_t(p_.n_heads); }

  void chunk(int c) {
    const size_t first = size_t(c) * chunk_pages;
    const ChunkValues work{q_.get(),
                           n_queries_,
                           group_,
                           last_keys_,
                           p_.kv.head_dim,
                           p_.kv.type,
                           p_.n_gradients,
                           gradient_.get(),
                           probabilities_.get(),
                           page_out_.get(),
                           max_.get() + at(c, 0),
                           sum_.get() + at(c, 0),
                           mass_.get() + first,
                           value_.get() + first,
                           stride_,
                           size_t(n_queries_) * stride_};
    HWY_DYNAMIC_DISPATCH(chunk_page_values)(work, chunk_of(p_.kv, *tile_, g_, c, Reads::keys_and_values));
  }

  // One factor a chunk, 2^(chunk's maximum - row's maximum) / denominator, into the outputs.
  void finish(int query) {
    const int n_chunks = tile_->n_chunks();
    float top = max_[at(0, query)];
    for (int c = 1; c < n_chunks; ++c) top = std::max(top, max_[at(c, query)]);
    double denominator = 0;
    for (int c = 0; c < n_chunks; ++c)
      denominator += std::exp2(double(max_[at(c, query)]) - top) * double(sum_[at(c, query)]);
    for (int n = -1; n < p_.n_gradients; ++n) {
      const float* from = n < 0 ? mass_.get() + size_t(query) * stride_
                                : value_.get() + size_t(n * n_queries_ + query) * stride_;
      float* to = (n < 0 ? p_.mass : p_.value + gradient_row(n) * size_t(p_.out_pages)) +
                  head(query) * size_t(p_.out_pages);
      for (int u = 0; u < tile_->n_pages; ++u) {
        const float max = max_[at(u / chunk_pages, query)];
        to[u] = float(std::exp2(double(max) - top) / denominator * double(from[u]));
      }
      std::fill(to + tile_->n_pages, to + p_.out_pages, 0.0f);
    }
  }

  const Params& p_;
  const int group_;
  const Tile* tile_ = nullptr;
  int g_ = 0, n_queries_ = 0;
  size_t stride_ = 0;  // pages of the longest tile, whole chunks
  int last_keys_[page_size];
  Buffer q_;              // [head_dim, n_queries]
  Buffer gradient_;       // [n_gradients, n_queries, head_dim]
  Buffer probabilities_;  // [n_queries, chunk_keys]
  Buffer page_out_;       // [n_queries, head_dim]
  Buffer max_, sum_;      // [n_chunks, n_queries]
  Buffer mass_;           // [n_queries, stride_]
  Buffer value_;          // [n_gradients, n_queries, stride_]
};

}  // namespace

void cpu(const Params& p) {
  check(p);
  if (p.n_rows == 0) return;
  std::vector<Tile> tiles = tiles_of(p.n_rows, page_size, p.sequence, p.length);
  std::stable_sort(tiles.begin(), tiles.end(),
                   [](const Tile& a, const Tile& b) { return a.n_pages * a.n_rows > b.n_pages * b.n_rows; });
  const int n_threads = omp_get_max_threads();
  std::vector<Worker> workers;
  workers.reserve(size_t(n_threads));
  for (int i = 0; i < n_threads; ++i) workers.emplace_back(p, tiles);
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(n_threads)
  for (size_t t = 0; t < tiles.size(); ++t)
    for (int g = 0; g < p.kv.n_kv_heads; ++g) workers[size_t(omp_get_thread_num())].run(tiles[t], g);
}

}  // namespace deltacal::kernels::page_value
#endif
