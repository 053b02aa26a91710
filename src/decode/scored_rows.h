// Page score and page mass of some rows of a layer, for observers.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/ranking.h"
#include "decode/decoder.h"
#include "kernels/page_score/page_score.h"

namespace deltacal::decode {

constexpr kernels::page_score::Page kernel_page(PageScore page) {
  return page == PageScore::sum ? kernels::page_score::Page::sum : kernels::page_score::Page::max;
}

struct ScoredRows {
  int n_pages = 0;                // pages of the longest row
  std::vector<float> score;       // [n_rows, n_pages]
  std::vector<float> mass;        // [n_rows, n_pages]
  std::vector<float> group_mass;  // [n_rows, n_kv_heads, n_pages]; empty unless asked for
};

// Rows of sequence 0 whose page masses and page values are wanted (kernels/page_value). All in host memory,
// which a CUDA device copies from and to while the host goes on where it is pinned.
struct ValueRows {
  int n_gradients = 1;
  std::span<const int32_t> length;  // [n_rows] keys each row sees
  const float* q = nullptr;         // [n_rows, n_heads, head_dim] after rotary embedding
  const float* gradient = nullptr;  // [n_gradients, n_rows, n_heads, head_dim]
  // [n_rows, n_heads] natural log of the softmax's denominator; null: not known. A CUDA device reads it.
  const float* log_sum_exp = nullptr;
  int out_pages = 0;                // row length of the outputs, >= pages of the longest row
  float* mass = nullptr;            // [n_rows, n_heads, out_pages]
  float* value = nullptr;           // [n_gradients, n_rows, n_heads, out_pages]
};

// Until it returns, what the pointers point to is in use. By any thread.
using WaitForValues = std::function<void()>;
// Begins to find them, layer by layer, from the keys and values that a pass left in the cache; outlives what
// waits for them.
using FindValues = std::function<WaitForValues(int layer, const ValueRows&)>;
FindValues values_of(const model::Model&, KvCache&);

// Scores on their way: waits for them and moves them to `out`. To be called once.
using TakeScores = std::function<void(ScoredRows& out)>;

// Begins to score rows of a view, `rows`: indices into it, ascending, not empty. On a CUDA device the host
// goes on meanwhile.
TakeScores begin_scores(const LayerView&, std::span<const int> rows, bool group_mass,
                        PageScore page = PageScore::sum);
// The same, and waits.
void score_rows(const LayerView&, std::span<const int> rows, bool group_mass, ScoredRows& out,
                PageScore page = PageScore::sum);
// The same of a query [n_heads, head_dim] of the layer, in host memory, at `position` of `sequence`.
void score_query(const LayerView&, const float* q, int position, int sequence, ScoredRows& out,
                 PageScore page);

}  // namespace deltacal::decode
