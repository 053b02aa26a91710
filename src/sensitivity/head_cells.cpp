#include "sensitivity/head_cells.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "decode/kv_cache.h"
#include "sensitivity/page_values.h"

namespace deltacal::sensitivity {
namespace {

// Steps at which some layer leaves pages out: numbers of `steps`.
std::vector<int> active_steps(std::span<const int32_t> steps, const ListUse& use) {
  const int least = std::ranges::min(use.served, {}, &ListUse::Served::k_pages).k_pages;
  std::vector<int> active;
  for (size_t s = 0; s < steps.size(); ++s)
    if (pages_seen(steps[s]) > least) active.push_back(int(s));
  return active;
}

// q.k of one query and the 16 keys of a page, a chain of sums over d for each key, as the kernels have it.
void page_logits(const float* q, const kernels::PagedKv& kv, int physical, int g, float* out) {
  const size_t first = kv.page_offset(physical, g);
  std::fill_n(out, page_size, 0.0f);
  const auto add = [&](const auto* keys) {
    for (int d = 0; d < kv.head_dim; ++d)
      for (int i = 0; i < page_size; ++i) out[i] += q[d] * kernels::to_float(keys[d * page_size + i]);
  };
  if (kv.type == kernels::KvType::f32) {
    add(static_cast<const float*>(kv.keys) + first);
  } else {
    add(static_cast<const kernels::bf16*>(kv.keys) + first);
  }
}

// out [16 U] becomes softmax over the positions 0..step, 0 past them.
void attention_of(const float* q, float scale, const kernels::PagedKv& kv, int g, int step, float* out) {
  const int n = step + 1, seen = pages_seen(step);
  for (int u = 0; u < seen; ++u) page_logits(q, kv, kv.physical(0, u), g, out + u * page_size);
  const float top = *std::max_element(out, out + n);
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += out[i] = std::exp(scale * (out[i] - top));
  for (int i = 0; i < n; ++i) out[i] = float(out[i] / sum);
  std::fill(out + n, out + seen * page_size, 0.0f);
}

// q [S, H, d] of the Δ-layer.
void keep_attention(std::span<const float> q, const kernels::PagedKv& kv, std::span<const int> active,
                    HeadCells& out) {
  const int H = out.n_heads, d = kv.head_dim, group = H / kv.n_kv_heads;
  const float scale = 1.0f / std::sqrt(float(d));
  std::vector<size_t> begin;  // [A] of each step's rows
  size_t size = 0;
  for (const int32_t step : out.steps)
    begin.push_back(size), size += size_t(H) * page_size * size_t(pages_seen(step));
  out.alpha.resize(size);
#pragma omp parallel for schedule(dynamic)
  for (size_t a = 0; a < active.size(); ++a)
    for (int h = 0; h < H; ++h)
      attention_of(&q[(size_t(active[a]) * size_t(H) + size_t(h)) * size_t(d)], scale, kv, h / group,
                   out.steps[a],
                   &out.alpha[begin[a] + size_t(h) * page_size * size_t(pages_seen(out.steps[a]))]);
}

// mass, value [S, H, n_pages] of the served layer. As in EdgeDeltas, sums in double.
void keep_cells(int n_pages, std::span<const float> mass, std::span<const float> value,
                std::span<const int> active, const HeadCells& of, HeadCells::Served& out) {
  const size_t H = size_t(of.n_heads);
  size_t n_cells = 0;
  for (const int32_t step : of.steps) n_cells += size_t(pages_seen(step)) * 2 * H;
  out.cells.reserve(n_cells);
  out.whole.reserve(active.size() * H);
  for (size_t a = 0; a < active.size(); ++a) {
    const size_t seen = size_t(pages_seen(of.steps[a])), first = out.cells.size();
    out.cells.resize(first + seen * 2 * H);
    for (size_t h = 0; h < H; ++h) {
      const size_t row = (size_t(active[a]) * H + h) * size_t(n_pages);
      double whole = 0;
      for (size_t u = 0; u < seen; ++u) whole += value[row + u];
      out.whole.push_back(float(whole));
      for (size_t u = 0; u < seen; ++u) {
        float* cell = &out.cells[first + u * 2 * H];
        cell[h] = mass[row + u];
        cell[H + h] = float(value[row + u] - whole * double(mass[row + u]));
      }
    }
  }
}

}  // namespace

std::vector<HeadCells> head_cells(const model::Model& model, std::span<const int32_t> ids,
                                  int n_prompt_tokens, std::span<const int32_t> steps,
                                  std::span<const ListUse> uses,
                                  const std::function<void(int n_positions)>& advance) {
  const int n_tokens = int(ids.size());
  std::vector<HeadCells> out(uses.size());
  std::vector<std::vector<int>> active;
  for (size_t i = 0; i < uses.size(); ++i) {
    assert(!uses[i].served.empty());
    active.push_back(active_steps(steps, uses[i]));
    out[i].layer = uses[i].layer;
    out[i].n_heads = model.info().n_heads;
    out[i].n_steps = int(steps.size());
    for (const int s : active[i]) out[i].steps.push_back(steps[size_t(s)]);
    for (const auto& served : uses[i].served) out[i].served.push_back({served.layer, served.k_pages, {}, {}});
  }

  decode::KvCache cache(model, 1, n_tokens);
  PageValues pass(model, n_tokens, steps);
  decode::Decoder decoder(model, cache, decode::full_policy(model.info().n_layers), {&pass});
  decode::replay(decoder, ids, n_prompt_tokens, [&](int, int n) {
    if (advance) advance(n);
  });
  pass.finish(ids, n_prompt_tokens, {}, cache,
              [&](int layer, int n_pages, std::span<const float> mass, std::span<const float> value) {
                for (size_t i = 0; i < uses.size(); ++i) {
                  if (layer == uses[i].layer)
                    keep_attention(pass.q(layer), cache.layer(layer), active[i], out[i]);
                  for (auto& served : out[i].served)
                    if (layer == served.layer) keep_cells(n_pages, mass, value, active[i], out[i], served);
                }
              });
  return out;
}

size_t head_cells_bytes(int n_heads, std::span<const int32_t> steps, std::span<const ListUse> uses) {
  size_t floats = 0;
  for (const ListUse& use : uses)
    for (const int s : active_steps(steps, use)) {
      const size_t seen = size_t(pages_seen(steps[size_t(s)])), H = size_t(n_heads);
      floats += seen * H * page_size + use.served.size() * (seen * 2 * H + H);
    }
  return sizeof(float) * floats;
}

}  // namespace deltacal::sensitivity
