// How the attention moves from layer to layer and from step to step.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "reports/build/parts.h"

namespace deltacal::reports {
namespace {

Figure drift(const Analysis& analysis, const Config* config, const char* id, const char* title,
             const char* caption, const Estimates& values) {
  LineChart chart{quantity::drift(title), "Layer", layer_names(values.size()), {{title, values}}, {},
                  LineChart::Style::band, true};
  if (config) chart.marked = delta_layers(config->strip);
  return {.id = id,
          .title = title,
          .caption = caption,
          .counts = counts_text(analysis.counts),
          .interval = interval_text(analysis.interval),
          .width = Width::half,
          .body = std::move(chart)};
}

// The lags of one budget, ascending: the half-life's own, else the one nearest to the budget shown elsewhere.
std::vector<const Analysis::Stale*> stale_of_one_budget(const Analysis& analysis, const Config* config) {
  const Budget wanted = analysis.half_life ? Budget{analysis.half_life->k_pages, analysis.half_life->l_pages}
                                           : main_budget(&analysis, config);
  const Analysis::Stale* chosen = nearest(analysis.stale, wanted.k_pages, wanted.l_pages);
  std::vector<const Analysis::Stale*> lags;
  for (const auto& stale : analysis.stale)
    if (stale.k_pages == chosen->k_pages && stale.l_pages == chosen->l_pages) lags.push_back(&stale);
  std::stable_sort(lags.begin(), lags.end(), [](auto* a, auto* b) { return a->lag < b->lag; });
  return lags;
}

// "7 samples", or "7 samples at lags 0 to 32, 0 at lag 64" where bursts are too short for some.
std::string samples_by_lag(const std::vector<const Analysis::Stale*>& lags) {
  std::string text;
  for (size_t first = 0; first < lags.size();) {
    size_t last = first;
    while (last + 1 < lags.size() && lags[last + 1]->n_samples == lags[first]->n_samples) ++last;
    const std::string n = text.empty() ? counts_text({lags[first]->n_samples, 0, 0})
                                       : fmt::format(", {}", lags[first]->n_samples);
    if (first == 0 && last + 1 == lags.size()) return n;
    text += first == last ? fmt::format("{} at lag {}", n, lags[first]->lag)
                          : fmt::format("{} at lags {} to {}", n, lags[first]->lag, lags[last]->lag);
    first = last + 1;
  }
  return text;
}

Figure stale_map(const Analysis& analysis, const Config* config) {
  const auto n = static_cast<size_t>(analysis.model.n_layers);
  const auto lags = stale_of_one_budget(analysis, config);
  const int k = lags.front()->k_pages, l = lags.front()->l_pages;
  const auto* half = analysis.half_life ? &*analysis.half_life : nullptr;
  if (half && (half->k_pages != k || half->l_pages != l)) half = nullptr;  // of another budget
  Heatmap map{.quantity = quantity::recall("Stale recall"),
              .row_label = "Lag (steps)",
              .column_label = "Layer",
              .rows = {},
              .columns = layer_names(n),
              .cells = {},
              .lower_triangle = false,
              .scale_min = 1,
              .scale_max = 1,
              .marked_columns = config ? delta_layers(config->strip) : std::vector<int>{},
              .outlined = {}};
  for (const auto* stale : lags) {
    for (size_t layer = 0; half && layer < n; ++layer)
      if (half->layers[layer].lag == stale->lag)
        map.outlined.emplace_back(static_cast<int>(map.rows.size()), static_cast<int>(layer));
    map.rows.push_back(fmt::format("{}", stale->lag));
    map.cells.push_back(stale->recall);
  }
  for (const auto& row : map.cells)
    for (const auto& cell : row)
      if (cell.has_value()) map.scale_min = std::min(map.scale_min, std::floor(cell.value * 10) / 10);
  map.scale_min =
      std::clamp(map.scale_min, -1.0, 0.9);  // of the lags: the window alone would hide their decline
  if (half) {
    map.rows.push_back("window");
    map.cells.emplace_back();
    for (const double recall : half->window_recall) map.cells.back().push_back(only(recall));
  }
  std::string caption = fmt::format(
      "The mass a layer keeps with pages chosen some steps earlier, at K = {} pages, L = {}; lag {} is the "
      "freshest list. "
      "Hatched: no burst of recorded steps is that long.",
      k, l, lags.front()->lag);
  if (half)
    caption += " Last row: the recent window alone, the darkest colour where it lies below the scale.";
  if (!map.outlined.empty()) caption += " Outlined: the half-life.";
  return {.id = "stale-recall",
          .title = "Stale recall",
          .caption = caption,
          .counts = samples_by_lag(lags),
          .interval = interval_text(analysis.interval),
          .body = std::move(map)};
}

std::string half_life_text(const Analysis::HalfLife::Layer& layer) {
  if (layer.lag >= 0) return fmt::format("{}", layer.lag);
  return layer.greater_than >= 0 ? fmt::format("> {}", layer.greater_than) : "undefined";
}

// Layers of one half-life in one row: as many rows as there are lags, not as there are layers.
Figure half_life(const Analysis& analysis) {
  const auto& half = *analysis.half_life;
  std::vector<std::pair<std::string, std::vector<int>>> groups;
  std::vector<size_t> order(half.layers.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  const auto key = [&](size_t i) {  // lags ascending, then "greater than", then undefined
    const auto& layer = half.layers[i];
    return std::pair(layer.lag >= 0            ? 0
                     : layer.greater_than >= 0 ? 1
                                               : 2,
                     std::max(layer.lag, layer.greater_than));
  };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return key(a) < key(b); });
  for (const size_t layer : order) {
    const std::string name = half_life_text(half.layers[layer]);
    if (groups.empty() || groups.back().first != name) groups.push_back({name, {}});
    groups.back().second.push_back(static_cast<int>(layer));
  }
  Table table{{quantity::text("Half-life (steps)"), quantity::text("Layers")}, {}};
  for (const auto& [name, layers] : groups) table.rows.push_back({name, joined(layers)});
  return {.id = "half-life",
          .title = "Half-life of a list",
          .caption = fmt::format(
              "The smallest recorded lag at which stale recall has lost half of what the list adds to the "
              "recent window (K = {} pages, L = {}); \"> n\" where the largest lag is not enough, "
              "undefined where the list adds less than 0.01. It bounds refresh_interval.",
              half.k_pages, half.l_pages),
          .counts = counts_text(analysis.counts),
          .interval = "Point estimates, without intervals.",
          .body = std::move(table)};
}

}  // namespace

Section drift_section(const Analysis& analysis, const Config* config) {
  Section section{"drift", "Drift over layers and steps", "", {}};
  section.figures.push_back(
      drift(analysis, config, "layer-drift", "Layer drift",
            "1 minus the cosine of the page scores of a layer and the layer below it at the same step: "
            "peaks are where attention moves to other pages.",
            analysis.layer_drift));
  section.figures.push_back(
      drift(analysis, config, "step-drift", "Step drift",
            "1 minus the cosine of a layer's page scores at a step and the step before, over the pages "
            "both see.",
            analysis.step_drift));
  if (!analysis.stale.empty()) section.figures.push_back(stale_map(analysis, config));
  if (analysis.half_life) section.figures.push_back(half_life(analysis));
  return section;
}

}  // namespace deltacal::reports
