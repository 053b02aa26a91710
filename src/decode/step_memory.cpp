#include "decode/step_memory.h"

#include <algorithm>

#include "core/error.h"
#include "core/pages.h"
#include "decode/decoder.h"
#include "decode/kv_cache.h"
#include "decode/logits.h"

namespace deltacal::decode {
namespace {

// cuBLAS's workspaces, of each thread; code that is loaded when it is first run; what lies in gaps.
constexpr size_t margin = size_t{1} << 30;

// The largest n in 0..most for which `fits(n)` holds; it holds for all below.
template <class Fits>
int largest(int most, Fits fits) {
  int low = 0;
  while (low < most) {
    const int middle = low + (most - low + 1) / 2;
    if (fits(middle))
      low = middle;
    else
      most = middle - 1;
  }
  return low;
}

double gigabytes(size_t bytes) {
  return 1e-9 * static_cast<double>(bytes);
}

}  // namespace

size_t StepMemory::total() const {
  return weights + cache + buffers + margin;
}

StepMemory step_memory(const model::Description& d, size_t weight_bytes, int n_rows, int max_positions,
                       const StepUse& use) {
  const ModelInfo& m = d.info;
  const size_t pages = size_t(pages_for(max_positions)), rows = size_t(n_rows);
  const size_t q_size = size_t(m.n_heads) * size_t(m.head_dim),
               kv_size = size_t(m.n_kv_heads) * size_t(m.head_dim);
  // Activations; logits, a copy of them, and what the log of their sum takes; scores, page table; records of
  // 20 bytes a page and head, and padding (PageLogits).
  const size_t of_row = size_t(d.n_embd) * 10 + (3 * q_size + 2 * kv_size) * 2 + size_t(d.n_ff) * 6 +
                        size_t(d.n_vocab) * 12 + pages * 8 +
                        pages * (size_t(m.n_heads) * 20 + size_t(m.n_kv_heads) * 32);
  StepMemory need;
  need.weights = weight_bytes;
  need.cache = KvCache::device_bytes(m, n_rows, max_positions);
  need.buffers = rows * of_row;
  need.buffers += use.besides;
  if (use.draws) need.buffers += std::min(rows, size_t(rows_of_draw)) * size_t(d.n_vocab) * draw_bytes;
  if (use.prefills) need.buffers += prefill_memory(d, {.n_positions = max_positions}).buffers;
  if (use.records)
    need.buffers += rows * pages * size_t(m.n_layers) * (8 + (use.group_mass ? 4 * size_t(m.n_kv_heads) : 0));
  return need;
}

int rows_that_fit(int most, const model::Description& d, size_t weight_bytes, int max_positions,
                  size_t free_bytes, const StepUse& use) {
  return largest(
      most, [&](int n) { return step_memory(d, weight_bytes, n, max_positions, use).total() <= free_bytes; });
}

void check_memory(const std::string& what, const model::Description& d, size_t weight_bytes, int n_rows,
                  int max_positions, size_t free_bytes, const StepUse& use) {
  const auto fits = [&](int rows, int positions) {
    return step_memory(d, weight_bytes, rows, positions, use).total() <= free_bytes;
  };
  if (fits(n_rows, max_positions)) return;
  const StepMemory need = step_memory(d, weight_bytes, n_rows, max_positions, use);
  const int rows = largest(n_rows, [&](int n) { return fits(n, max_positions); });
  const int pages = largest(pages_for(max_positions), [&](int n) { return fits(n_rows, n * page_size); });
  std::string advice = "no batch fits beside the weights";
  if (rows > 0 && pages > 0)
    advice = fmt::format("{}x{} or {}x{} would fit", rows, max_positions, n_rows, pages * page_size);
  else if (pages > 0)
    advice = fmt::format("{}x{} would fit", n_rows, pages * page_size);
  throw bad_input(
      "{} needs {:.1f} GB of device memory (weights {:.1f}, KV cache {:.1f}, the rest {:.1f}), {:.1f} GB are "
      "free: {}",
      what, gigabytes(need.total()), gigabytes(need.weights), gigabytes(need.cache),
      gigabytes(need.total() - need.weights - need.cache), gigabytes(free_bytes), advice);
}

StepMemory prefill_memory(const model::Description& d, const PrefillNeed& need) {
  const ModelInfo& m = d.info;
  const size_t n = size_t(need.n_positions), E = size_t(d.n_embd), F = size_t(d.n_ff),
               rows = size_t(std::min(need.n_positions, replay_chunk(model::Device::cuda)));
  const size_t q_size = size_t(m.n_heads) * size_t(m.head_dim),
               kv_size = size_t(m.n_kv_heads) * size_t(m.head_dim);
  // Residual stream in f32, four of its rows in bf16; queries, keys and values; three outputs of attention;
  // the feed-forward part. Keys and values of a prefix out of their pages. Page maps.
  const size_t of_row = E * (4 + 4 * 2) + (q_size + 2 * kv_size) * 2 + 4 * q_size * 2 + F * 6;
  StepMemory out;
  out.weights = need.weight_bytes;
  out.cache = size_t(need.n_caches) * KvCache::device_bytes(m, 1, need.n_positions);
  const size_t layers = rows * of_row + n * 2 * kv_size * 2 +
                        size_t(need.n_maps) * rows * size_t(pages_for(need.n_positions)) * 4;
  // Its end: the residual stream, what is added to it and the norm, in f32. Then the logits of
  // rows_of_logits.
  const size_t kept = bytes_kept_for_logits(d, need.n_positions), end = rows * E * 12,
               logits = kept + std::min<size_t>(rows, rows_of_logits) * (E * 2 + size_t(d.n_vocab) * 4);
  out.buffers = std::max({layers, end, logits});
  if (need.after) out.buffers = std::max(out.buffers, kept + need.after(need.n_positions));
  out.buffers += need.others;
  return out;
}

size_t bytes_kept_for_logits(const model::Description& d, int n_positions) {
  return size_t(std::min(n_positions, replay_chunk(model::Device::cuda))) * size_t(d.n_embd) * 4;
}

Pieces pieces_that_fit(int most_at_once, int largest_size, size_t free_bytes,
                       const std::function<StepMemory(int size)>& of_piece) {
  constexpr int large = 3;
  Pieces best{1, 1};
  int alone = 1;
  for (int at_once = 1; at_once <= most_at_once; ++at_once) {
    const int size = largest(largest_size, [&](int n) {
      const StepMemory need = of_piece(n);
      return size_t(at_once) * (need.cache + need.buffers) + margin <= free_bytes;
    });
    if (at_once == 1) alone = std::max(1, size);
    if (size >= std::min(alone, large)) best = {at_once, size};
  }
  return best;
}

size_t value_row_bytes(const ModelInfo& m, int n_gradients, int n_pages) {
  const size_t H = size_t(m.n_heads), d = size_t(m.head_dim), n = size_t(n_gradients);
  // Queries, as they come and in bf16, and outputs; gradients; log-sum-exp; mass and values.
  return H * d * (4 + 2 * 2) + n * H * d * 4 + H * 4 + (1 + n) * H * size_t(n_pages) * 4;
}

int value_rows_at_once(const ModelInfo& m, int n_gradients, int n_pages) {
  return static_cast<int>(std::max<size_t>(1, value_block_bytes / value_row_bytes(m, n_gradients, n_pages)));
}

void check_memory(const std::string& what, const model::Description& d, const PrefillNeed& need,
                  size_t free_bytes) {
  const auto needed = [&](int n_positions) {
    PrefillNeed of = need;
    of.n_positions = n_positions;
    return prefill_memory(d, of).total();
  };
  if (needed(need.n_positions) <= free_bytes) return;
  const int fit = largest(need.n_positions, [&](int n) { return needed(n) <= free_bytes; });
  const StepMemory most = prefill_memory(d, need);
  throw bad_input(
      "{} needs {:.1f} GB of device memory (weights {:.1f}, KV cache{} of {} positions {:.1f}, the rest "
      "{:.1f}), "
      "{:.1f} GB are free: {}",
      what, gigabytes(most.total()), gigabytes(most.weights), need.n_caches > 1 ? "s" : "", need.n_positions,
      gigabytes(most.cache), gigabytes(most.total() - most.weights - most.cache), gigabytes(free_bytes),
      fit > 0 ? fmt::format("{} positions would fit", fit) : "no sequence fits beside the weights");
}

}  // namespace deltacal::decode
