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

int smallest_lag(const std::vector<Analysis::Stale>& stale) {
  return std::min_element(stale.begin(), stale.end(), [](auto& a, auto& b) { return a.lag < b.lag; })->lag;
}

Figure stale_map(const Analysis& analysis, const Config* config) {
  const auto n = static_cast<size_t>(analysis.model.n_layers);
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
  const auto& first = analysis.stale.front();
  for (const auto& stale : analysis.stale) {
    if (stale.k_pages != first.k_pages || stale.l_pages != first.l_pages) continue;  // one budget a picture
    const int row = static_cast<int>(map.rows.size());
    map.rows.push_back(fmt::format("{}", stale.lag));
    map.cells.push_back(stale.recall);
    if (!analysis.half_life) continue;
    for (size_t layer = 0; layer < n; ++layer)
      if (analysis.half_life->layers[layer].lag == stale.lag)
        map.outlined.emplace_back(row, static_cast<int>(layer));
  }
  if (analysis.half_life) {
    map.rows.push_back("window");
    map.cells.emplace_back();
    for (const double recall : analysis.half_life->window_recall) map.cells.back().push_back(only(recall));
  }
  for (const auto& row : map.cells)
    for (const auto& cell : row)
      if (cell.has_value()) map.scale_min = std::min(map.scale_min, std::floor(cell.value * 10) / 10);
  map.scale_min = std::clamp(map.scale_min, -1.0, 0.9);
  return {.id = "stale-recall",
          .title = "Stale recall",
          .caption = fmt::format(
              "The mass a layer keeps with pages chosen some steps earlier, at K = {} pages, L = {}; lag "
              "{} is the freshest list. Last row: the recent window alone. Outlined: the half-life.",
              first.k_pages, first.l_pages, smallest_lag(analysis.stale)),
          .counts = counts_text({first.n_samples, 0, 0}),
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
