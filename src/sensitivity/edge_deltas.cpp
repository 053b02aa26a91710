#include "sensitivity/edge_deltas.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

#include "core/refresh.h"
#include "kernels/select_pages/select_pages.h"

namespace deltacal::sensitivity {

EdgeDeltas::EdgeDeltas(int n_layers, int n_heads, std::span<const int32_t> steps,
                       std::vector<PageBudget> budgets, int n_gradients, double position_bias,
                       std::span<const Ranking> rankings)
    : n_layers_(n_layers),
      n_heads_(n_heads),
      n_gradients_(n_gradients),
      n_rankings_(static_cast<int>(rankings.size())),
      position_bias_(position_bias),
      steps_(steps.begin(), steps.end()),
      budgets_(std::move(budgets)),
      made_at_(rankings.size() * size_t(n_layers) * steps.size(), -1) {
  for (const Ranking& ranking : rankings) keeps_.push_back(ranking.keeps_lists());
  for (size_t e = 0; e < budgets_.size(); ++e) {
    const auto [k, l] = budgets_[e];
    assert(1 <= l && l <= k);
    max_k_ = std::max(max_k_, k);
    auto with_l =
        std::find_if(lengths_.begin(), lengths_.end(), [l = l](const Length& x) { return x.l_pages == l; });
    if (with_l == lengths_.end()) with_l = lengths_.insert(with_l, {l, {}});
    with_l->budgets.push_back(e);
  }
  for (Length& length : lengths_)
    std::sort(length.budgets.begin(), length.budgets.end(),
              [&](size_t a, size_t b) { return budgets_[a].k_pages < budgets_[b].k_pages; });
  lists_.resize(size_t(n_rankings_) * size_t(n_layers_) * lengths_.size() * steps_.size() * size_t(max_k_));
  delta_.assign(size_t(n_rankings_) * n_deltas(), 0.0f);
}

size_t EdgeDeltas::list_at(int ranking, int layer, size_t l_index, int step) const {
  const size_t of_layer = size_t(ranking) * size_t(n_layers_) + size_t(layer);
  return ((of_layer * lengths_.size() + l_index) * steps_.size() + size_t(step)) * size_t(max_k_);
}

float& EdgeDeltas::at(int ranking, int gradient, size_t budget, size_t pair, int step) {
  const size_t row = (size_t(gradient) * budgets_.size() + budget) * n_pairs() + pair;
  return delta_[size_t(ranking) * n_deltas() + row * steps_.size() + size_t(step)];
}

std::span<const float> EdgeDeltas::delta(int ranking) const {
  return std::span(delta_).subspan(size_t(ranking) * n_deltas(), n_deltas());
}

void EdgeDeltas::rank(int ranking, int layer, std::span<const MadeList> lists, int n_pages,
                      std::span<const float> score) {
  std::vector<int32_t> seen, made(lists.size() * size_t(max_k_));  // pages; the lists as they are made
  for (const MadeList& list : lists) seen.push_back(pages_seen(list.t0));
  kernels::select_pages::Params select;
  select.n_rows = static_cast<int>(lists.size());
  select.k_pages = max_k_;
  select.position_bias = position_bias_;
  select.score = score.data();
  select.score_stride = n_pages;
  select.n_pages = seen.data();
  select.list = made.data();
  for (size_t l = 0; l < lengths_.size(); ++l) {
    select.l_pages = lengths_[l].l_pages;
    kernels::select_pages::cpu(select);
    for (size_t i = 0; i < lists.size(); ++i) {
      const auto pages = std::span(made).subspan(i * size_t(max_k_), size_t(std::min(max_k_, seen[i])));
      for (int step = lists[i].first; step < lists[i].end; ++step) {
        made_at(ranking, layer, step) = lists[i].t0;
        list_in_force(pages, {max_k_, lengths_[l].l_pages}, lists[i].t0, steps_[size_t(step)],
                      std::span(lists_).subspan(list_at(ranking, layer, l, step), size_t(max_k_)));
      }
    }
  }
}

void EdgeDeltas::add(int layer, int n_pages, std::span<const float> mass, std::span<const float> value) {
  assert(mass.size() == steps_.size() * size_t(n_heads_) * size_t(n_pages));
  assert(value.size() == mass.size() * size_t(n_gradients_));
#pragma omp parallel for schedule(dynamic)
  for (int step = 0; step < static_cast<int>(steps_.size()); ++step)
    add_step(layer, step, n_pages, mass, value);
}

void EdgeDeltas::add_step(int layer, int step, int n_pages, std::span<const float> mass,
                          std::span<const float> value) {
  const int seen = pages_seen(steps_[step]);
  const size_t heads = size_t(n_heads_), width = heads * size_t(1 + n_gradients_);
  // [seen, 1 + n_gradients, heads]: mass, then c of each gradient.
  std::vector<double> cells(size_t(seen) * width);
  std::vector<double> whole(heads * size_t(n_gradients_), 0.0);  // [n_gradients, heads] g.o
  for (size_t h = 0; h < heads; ++h) {
    const float* m = &mass[(size_t(step) * heads + h) * size_t(n_pages)];
    for (int u = 0; u < seen; ++u) cells[size_t(u) * width + h] = m[u];
    for (size_t n = 0; n < size_t(n_gradients_); ++n) {
      const float* v = &value[((n * steps_.size() + size_t(step)) * heads + h) * size_t(n_pages)];
      double& sum = whole[n * heads + h];
      for (int u = 0; u < seen; ++u) sum += v[u];
      for (int u = 0; u < seen; ++u)
        cells[size_t(u) * width + (n + 1) * heads + h] = v[u] - sum * double(m[u]);
    }
  }

  for (int ranking = 0; ranking < n_rankings_; ++ranking) add_lists(ranking, layer, step, cells, whole);
}

void EdgeDeltas::add_lists(int ranking, int layer, int step, std::span<const double> cells,
                           std::span<const double> whole) {
  const int t = steps_[size_t(step)], seen = pages_seen(t);
  const size_t heads = size_t(n_heads_), width = heads * size_t(1 + n_gradients_);
  std::vector<double> chosen(width);  // sums of cells over the first pages of a list
  for (int source = 0; source <= layer; ++source) {
    const size_t pair = size_t(layer) * size_t(layer + 1) / 2 + size_t(source);
    const int t0 = made_at(ranking, source, step);
    assert(0 <= t0 && t0 <= t);
    if (source == layer && t0 == t && keeps_[size_t(ranking)]) continue;  // it attends to everything
    for (size_t l = 0; l < lengths_.size(); ++l) {
      const int in_force = pages_in_force({max_k_, lengths_[l].l_pages}, t0, t);
      std::fill(chosen.begin(), chosen.end(), 0.0);
      const int32_t* pages = &lists_[list_at(ranking, source, l, step)];
      int used = 0;
      for (const size_t budget : lengths_[l].budgets) {
        if (budgets_[budget].k_pages >= seen) break;
        for (; used < std::min(budgets_[budget].k_pages, in_force); ++used) {
          const double* cell = &cells[size_t(pages[used]) * width];
          for (size_t i = 0; i < width; ++i) chosen[i] += cell[i];
        }
        for (int n = 0; n < n_gradients_; ++n) {
          double delta = 0;
          for (size_t h = 0; h < heads; ++h) {
            const size_t c = size_t(n) * heads + h;
            delta += chosen[h] > 0 ? chosen[heads + c] / chosen[h] : -whole[c];
          }
          at(ranking, n, budget, pair, step) = static_cast<float>(delta);
        }
      }
    }
  }
}

std::vector<float> EdgeDeltas::edge_kl(int ranking) const {
  const std::span<const float> deltas = delta(ranking);
  const size_t n_layers = size_t(n_layers_), n_steps = steps_.size();
  std::vector<float> kl(budgets_.size() * n_layers * n_layers, std::numeric_limits<float>::quiet_NaN());
  for (size_t e = 0; e < budgets_.size(); ++e)
    for (size_t target = 0; target < n_layers; ++target)
      for (size_t source = 0; source <= target; ++source) {
        double sum = 0;
        for (size_t n = 0; n < size_t(n_gradients_); ++n) {
          const float* delta =
              &deltas[((n * budgets_.size() + e) * n_pairs() + target * (target + 1) / 2 + source) * n_steps];
          for (size_t s = 0; s < n_steps; ++s) sum += double(delta[s]) * double(delta[s]);
        }
        kl[(e * n_layers + target) * n_layers + source] =
            static_cast<float>(0.5 * sum / (double(n_gradients_) * double(n_steps)));
      }
  return kl;
}

}  // namespace deltacal::sensitivity
