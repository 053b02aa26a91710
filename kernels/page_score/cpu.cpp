// One pass over the keys and two over the probabilities: per chunk of 256 keys 2^(logit - the chunk's
// maximum) and its sum, for all heads; then one factor per head and chunk, 2^(chunk's maximum - row's
// maximum) / denominator, turns them into alpha while the pages are summed. Rows of one sequence that end in
// the same page share the keys (a tile). Many rows: threads take whole tiles, bound by multiply-adds. Few
// rows: threads share each tile's chunks, bound by the memory that holds the keys. Both do the same
// arithmetic in the same order.
#include "kernels/simd/targets.h"

// foreach_target.h includes this file once for each instruction set; what follows it belongs to each of them.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/page_score/cpu.cpp"
#include <hwy/foreach_target.h>

#include <cmath>
#include <hwy/highway.h>

#include "kernels/page_score/chunk_scores.h"
#include "kernels/simd/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace deltacal::kernels::HWY_NAMESPACE {

void score_softmax(const page_score::ChunkScores& s, const Chunk& chunk) {
  const Queries queries{s.q, s.n_queries, s.per_row, s.last_keys, s.head_dim};
  if (s.type == KvType::f32) {
    chunk_softmax<float>(queries, chunk, s.p, s.max, s.sum);
  } else {
    chunk_softmax<bf16>(queries, chunk, s.p, s.max, s.sum);
  }
}

// Sums of one row over the pages of one chunk. p and factor are those of the row's first head; the heads of
// the next key/value head lie p_stride and factor_stride further.
template <page_score::Page page>
void page_sums_of(const page_score::RowChunk& row, const page_score::PageSums& out) {
  constexpr bool summed = page == page_score::Page::sum;
  const F f;
  for (int j = 0; j < row.n_pages; ++j) {
    V top[kPageVectors];
    for (int v = 0; v < kPageVectors; ++v) top[v] = hn::Zero(f);
    float sum = 0;
    for (int g = 0; g < row.n_kv_heads; ++g) {
      const float* HWY_RESTRICT p = row.p + size_t(g) * row.p_stride + j * page_size;
      const float* HWY_RESTRICT factor = row.factor + size_t(g) * row.factor_stride;
      V total = hn::Zero(f);
      for (int h = 0; h < row.group; ++h, p += chunk_keys) {
        const V scale = hn::Set(f, factor[h]);
        for (int v = 0; v < kPageVectors; ++v) {
          const V alpha = hn::Mul(load(p + v * kLanes), scale);
          top[v] = hn::Max(top[v], alpha);
          total = hn::Add(total, alpha);
        }
      }
      const float group_sum = hn::GetLane(hn::SumOfLanes(f, total));
      if (out.group_mass)
        out.group_mass[size_t(g) * out.group_stride + size_t(j)] = group_sum / float(row.group);
      sum += group_sum;
    }
    for (int v = 1; v < kPageVectors; ++v)
      top[0] = summed ? hn::Add(top[0], top[v]) : hn::Max(top[0], top[v]);
    // A vector maximum may drop a NaN; the sum over heads does not.
    out.score[j] = std::isnan(sum)
                       ? sum
                       : hn::GetLane(summed ? hn::SumOfLanes(f, top[0]) : hn::MaxOfLanes(f, top[0]));
    if (out.mass) out.mass[j] = sum / float(row.group * row.n_kv_heads);
  }
}

void page_sums(const page_score::RowChunk& row, const page_score::PageSums& out) {
  using page_score::Page;
  row.page == Page::sum ? page_sums_of<Page::sum>(row, out) : page_sums_of<Page::max>(row, out);
}

}  // namespace deltacal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <hwy/aligned_allocator.h>
#include <omp.h>

#include <algorithm>
#include <cmath>

#include "kernels/page_score/page_score.h"
#include "kernels/simd/pack.h"

namespace deltacal::kernels {
HWY_EXPORT(score_softmax);
HWY_EXPORT(page_sums);
}  // namespace deltacal::kernels

namespace deltacal::kernels::page_score {
namespace {

using Buffer = hwy::AlignedFreeUniquePtr<float[]>;
constexpr size_t tile_bytes = size_t(2) << 20;  // of a tile's probabilities, where 4 rows fit

std::vector<Tile> tiles_for(const Params& p) {
  const size_t longest = size_t(*std::max_element(p.length, p.length + p.n_rows));
  const size_t rows = tile_bytes / (sizeof(float) * size_t(p.n_heads) * longest);
  auto tiles = tiles_of(p.n_rows, int(std::clamp<size_t>(rows, 4, page_size)), p.sequence, p.length);
  std::stable_sort(tiles.begin(), tiles.end(),
                   [](const Tile& a, const Tile& b) { return a.n_pages * a.n_rows > b.n_pages * b.n_rows; });
  return tiles;
}

// The stages of one tile, and the memory they share. Blocks of key/value head g and chunk c follow each
// other.
class TileScores {
 public:
  // Memory for every tile of the call.
  TileScores(const Params& p, const std::vector<Tile>& tiles) : p_(p), group_(p.n_heads / p.kv.n_kv_heads) {
    size_t rows = 1, blocks = 1;  // blocks: rows times chunks
    for (const Tile& t : tiles) {
      rows = std::max(rows, size_t(t.n_rows));
      blocks = std::max(blocks, size_t(t.n_rows) * size_t(t.n_chunks()));
    }
    const size_t heads = size_t(p.n_heads);
    queries_ = hwy::AllocateAligned<float>(rows * heads * size_t(p.kv.head_dim));
    probabilities_ = hwy::AllocateAligned<float>(blocks * heads * chunk_keys);
    max_ = hwy::AllocateAligned<float>(blocks * heads);
    sum_ = hwy::AllocateAligned<float>(blocks * heads);
  }

  void take(const Tile& tile) {
    tile_ = &tile;
    n_queries_ = tile.n_rows * group_;
    last_page_keys(p_.length, tile, last_keys_);
    for (int g = 0; g < p_.kv.n_kv_heads; ++g) {
      pack_queries(p_.q, p_.n_heads, p_.kv.head_dim, p_.scale, tile, g, group_, packed(g));
    }
  }

  void softmax(int g, int c) {
    const size_t b = block(g, c);
    const ChunkScores scores{packed(g),
                             n_queries_,
                             group_,
                             last_keys_,
                             p_.kv.head_dim,
                             p_.kv.type,
                             probabilities_.get() + b * chunk_keys,
                             max_.get() + b,
                             sum_.get() + b};
    HWY_DYNAMIC_DISPATCH(score_softmax)(scores, chunk_of(p_.kv, *tile_, g, c, Reads::keys));
  }

  // max_ becomes the factor of each head and chunk.
  void normalise(int g) {
    for (int i = 0; i < n_queries_; ++i) {
      float top = max_[block(g, 0) + size_t(i)];
      for (int c = 1; c < tile_->n_chunks(); ++c) top = std::max(top, max_[block(g, c) + size_t(i)]);
      double denominator = 0;
      for (int c = 0; c < tile_->n_chunks(); ++c) {
        float& max = max_[block(g, c) + size_t(i)];
        max = std::exp2(max - top);
        denominator += double(max) * double(sum_[block(g, c) + size_t(i)]);
      }
      for (int c = 0; c < tile_->n_chunks(); ++c) {
        float& max = max_[block(g, c) + size_t(i)];
        max = float(double(max) / denominator);
      }
    }
  }

  void sum_pages(int row, int c) {
    const int first = c * chunk_pages;
    const size_t b = block(0, c) + size_t(row * group_), next_head = block(1, c) - block(0, c);
    const RowChunk from{probabilities_.get() + b * chunk_keys,
                        next_head * chunk_keys,
                        max_.get() + b,
                        next_head,
                        std::min(chunk_pages, tile_->n_pages - first),
                        group_,
                        p_.kv.n_kv_heads,
                        p_.page};
    const size_t r = size_t(tile_->first_row + row), pages = size_t(p_.out_pages);
    const PageSums out{p_.score + r * pages + first, p_.mass ? p_.mass + r * pages + first : nullptr,
                       p_.group_mass ? p_.group_mass + r * size_t(p_.kv.n_kv_heads) * pages + first : nullptr,
                       pages};
    HWY_DYNAMIC_DISPATCH(page_sums)(from, out);
  }

  // The pages past the row's own.
  void clear_rest(int row) {
    const size_t r = size_t(tile_->first_row + row), pages = size_t(p_.out_pages);
    const auto clear = [&](float* array, size_t array_row) {
      std::fill(array + array_row * pages + tile_->n_pages, array + (array_row + 1) * pages, 0.0f);
    };
    clear(p_.score, r);
    if (p_.mass) clear(p_.mass, r);
    const size_t heads = p_.group_mass ? size_t(p_.kv.n_kv_heads) : 0;
    for (size_t g = 0; g < heads; ++g) clear(p_.group_mass, r * heads + g);
  }

 private:
  float* packed(int g) { return queries_.get() + size_t(g) * size_t(n_queries_) * size_t(p_.kv.head_dim); }
  size_t block(int g, int c) const {
    return (size_t(g) * size_t(tile_->n_chunks()) + size_t(c)) * size_t(n_queries_);
  }

  const Params& p_;
  const int group_;
  const Tile* tile_ = nullptr;
  int n_queries_ = 0;  // of one key/value head
  int last_keys_[page_size];
  Buffer queries_;        // [n_kv_heads, head_dim, n_queries]
  Buffer probabilities_;  // [n_kv_heads, n_chunks, n_queries, chunk_keys]
  Buffer max_, sum_;      // [n_kv_heads, n_chunks, n_queries]
};

// Threads take tiles.
void run_tiles(const Params& p, const std::vector<Tile>& tiles, int n_threads) {
  std::vector<TileScores> scores;
  scores.reserve(size_t(n_threads));
  for (int i = 0; i < n_threads; ++i) scores.emplace_back(p, tiles);
#pragma omp parallel for schedule(dynamic) num_threads(n_threads)
  for (size_t t = 0; t < tiles.size(); ++t) {
    TileScores& tile = scores[size_t(omp_get_thread_num())];
    tile.take(tiles[t]);
    for (int g = 0; g < p.kv.n_kv_heads; ++g) {
      for (int c = 0; c < tiles[t].n_chunks(); ++c) tile.softmax(g, c);
      tile.normalise(g);
    }
    for (int row = 0; row < tiles[t].n_rows; ++row) {
      for (int c = 0; c < tiles[t].n_chunks(); ++c) tile.sum_pages(row, c);
      tile.clear_rest(row);
    }
  }
}

// All threads work on one tile after the other.
void run_chunks(const Params& p, const std::vector<Tile>& tiles, int n_threads) {
  TileScores scores(p, tiles);
  for (const Tile& tile : tiles) {
    const int n_chunks = tile.n_chunks();
    scores.take(tile);
#pragma omp parallel num_threads(n_threads)
    {
#pragma omp for collapse(2) schedule(dynamic)
      for (int g = 0; g < p.kv.n_kv_heads; ++g) {
        for (int c = 0; c < n_chunks; ++c) scores.softmax(g, c);
      }
#pragma omp for schedule(static)
      for (int g = 0; g < p.kv.n_kv_heads; ++g) scores.normalise(g);
#pragma omp for collapse(2) schedule(static)
      for (int row = 0; row < tile.n_rows; ++row) {
        for (int c = 0; c < n_chunks; ++c) scores.sum_pages(row, c);
      }
    }
    for (int row = 0; row < tile.n_rows; ++row) scores.clear_rest(row);
  }
}

}  // namespace

void cpu(const Params& p) {
  check(p);
  if (p.n_rows == 0) return;
  const std::vector<Tile> tiles = tiles_for(p);
  long total = 0;
  for (const Tile& t : tiles) total += long(t.n_pages) * t.n_rows;
  const int n_threads = omp_get_max_threads();
  const bool uneven = long(tiles[0].n_pages) * tiles[0].n_rows * n_threads * 4 > total;
  if (n_threads > 1 && uneven) {
    run_chunks(p, tiles, n_threads);
  } else {
    run_tiles(p, tiles, n_threads);
  }
}

}  // namespace deltacal::kernels::page_score
#endif
