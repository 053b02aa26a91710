// What the chosen pages keep of the attention: every pair of layers, and the pairs the config uses.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "reports/build/parts.h"

namespace deltacal::reports {
namespace {

std::string budget_text(int k, int l) {
  return fmt::format("K = {} pages, L = {}", k, l);
}

// The colours start at a round number at or below the smallest value.
double scale_from(const EstimateMatrix& cells) {
  double least = 1;
  for (const auto& row : cells)
    for (const auto& cell : row)
      if (cell.has_value()) least = std::min(least, cell.value);
  return std::max(-1.0, std::min(0.9, std::floor(least * 10) / 10));
}

Figure recall_map(const Analysis& analysis, const Config* config) {
  const Budget wanted = main_budget(&analysis, config);
  const Analysis::Recall& table = *nearest(analysis.recall, wanted.k_pages, wanted.l_pages);
  const auto names = layer_names(table.recall.size());
  Heatmap map{.quantity = quantity::recall(),
              .row_label = "Target layer (attends)",
              .column_label = "Source layer (chooses the pages)",
              .rows = names,
              .columns = names,
              .cells = table.recall,
              .lower_triangle = true,
              .scale_min = scale_from(table.recall),
              .scale_max = 1,
              .marked_columns = {},
              .outlined = {}};
  std::string caption = fmt::format(
      "The attention mass that a target layer keeps with the pages the source layer's "
      "scores choose, at {}.",
      budget_text(table.k_pages, table.l_pages));
  if (config) {
    map.marked_columns = delta_layers(config->strip);
    const auto& layers = config->strip.layers;
    for (size_t i = 0; i < layers.size(); ++i)
      if (layers[i].role == Role::sparse) map.outlined.emplace_back(static_cast<int>(i), layers[i].source);
    caption += " \u0394 marks the chosen layers, outlines the pairs the config uses";
    if (table.k_pages != wanted.k_pages || table.l_pages != wanted.l_pages)
      caption += fmt::format("; the config's most frequent budget is {}, this is the nearest one analysed",
                             budget_text(wanted.k_pages, wanted.l_pages));
    caption += ".";
  }
  return {.id = "recall",
          .title = "Recall of every pair of layers",
          .caption = caption,
          .counts = counts_text(table.counts),
          .interval = interval_text(analysis.interval),
          .body = std::move(map)};
}

// One series of the chart by layer, at the budget of each layer; notes the grid's budgets where they differ.
struct Chosen {
  LineChart::Series recall{"calibration: the \u0394-layer's pages", {}},
      oracle{"calibration: oracle, same budget", {}};
  std::set<std::string> notes;
};

Chosen chosen_edges(const Analysis& analysis, const Config& config) {
  Chosen chosen;
  const auto& layers = config.strip.layers;
  chosen.recall.y.resize(layers.size());
  chosen.oracle.y.resize(layers.size());
  for (size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].role != Role::sparse) continue;
    const auto source = static_cast<size_t>(layers[i].source);
    const int k = layers[i].k_pages, l = layers[source].l_pages;
    if (const auto* table = nearest(analysis.recall, k, l)) {
      chosen.recall.y[i] = table->recall[i][source];
      if (table->k_pages != k || table->l_pages != l)
        chosen.notes.insert(
            fmt::format("{} taken at {}", budget_text(k, l), budget_text(table->k_pages, table->l_pages)));
    }
    if (const auto* table = nearest(analysis.oracle, k)) {
      chosen.oracle.y[i] = table->recall[i];
      if (table->k_pages != k)
        chosen.notes.insert(fmt::format("oracle at K = {} taken at {}", k, table->k_pages));
    }
  }
  return chosen;
}

LineChart::Series by_layer(std::string name, const std::vector<std::pair<int, Estimate>>& values, size_t n) {
  LineChart::Series series{std::move(name), Estimates(n)};
  for (const auto& [layer, value] : values) series.y[static_cast<size_t>(layer)] = value;
  return series;
}

// Recall of the sparse layers from every source there is.
Figure layer_recall(const Parts& parts, size_t n) {
  LineChart chart{quantity::recall(), "Layer", layer_names(n), {}, {}, LineChart::Style::whiskers, false};
  Figure figure{.id = "recall-layers",
                .title = "Recall of the sparse layers",
                .caption = "Each sparse layer with the list of its \u0394-layer, at its own k. "};
  if (parts.analysis && parts.config) {
    Chosen chosen = chosen_edges(*parts.analysis, *parts.config);
    chart.series = {std::move(chosen.oracle), std::move(chosen.recall)};
    figure.caption +=
        "Oracle: the most that any k pages of the layer hold, hence what the budget alone loses. ";
    if (!chosen.notes.empty())
      figure.caption += fmt::format("Budgets outside the analysed grid: {}. ", fmt::join(chosen.notes, "; "));
    figure.counts = "Calibration: " + counts_text(parts.analysis->counts);
    figure.interval = interval_text(parts.analysis->interval);
  } else if (parts.config && !parts.config->recall.empty()) {
    chart.series.push_back(by_layer("expected by the config", parts.config->recall, n));
    figure.interval = "Intervals as the config gives them.";
  }
  if (parts.config) chart.marked = delta_layers(parts.config->strip);
  if (parts.validation) {
    const auto* delta = find_policy(*parts.validation, "delta");
    if (delta && !delta->recall.empty()) {
      chart.series.push_back(by_layer("validation: the sparse run itself", delta->recall, n));
      figure.caption += "Validation: with the hidden states of the sparse run itself. ";
      figure.counts +=
          (figure.counts.empty() ? "Validation: " : ". Validation: ") + counts_text(counts_of(*delta));
      if (figure.interval.empty()) figure.interval = interval_text(parts.validation->interval);
    }
  }
  figure.body = std::move(chart);
  return figure;
}

Figure oracle_alone(const Analysis& analysis) {
  LineChart chart{quantity::recall("Oracle recall"),
                  "Layer",
                  layer_names(static_cast<size_t>(analysis.model.n_layers)),
                  {},
                  {},
                  LineChart::Style::band,
                  false};
  for (const auto& oracle : analysis.oracle)
    chart.series.push_back({fmt::format("K = {}", oracle.k_pages), oracle.recall});
  return {
      .id = "oracle",
      .title = "Oracle recall",
      .caption = "The most attention mass that any K pages of the layer hold: what the budget alone loses.",
      .counts = counts_text(analysis.counts),
      .interval = interval_text(analysis.interval),
      .body = std::move(chart)};
}

Heatmap similarity(const char* name, const EstimateMatrix& cells, const Config* config) {
  const auto names = layer_names(cells.size());
  bool symmetric = true;
  for (size_t r = 0; r < cells.size(); ++r)
    for (size_t c = r + 1; c < cells.size(); ++c)
      if (cells[r][c].has_value() && cells[r][c].value != cells[c][r].value) symmetric = false;
  return {.quantity = quantity::similarity(name),
          .row_label = "Layer",
          .column_label = "Layer",
          .rows = names,
          .columns = names,
          .cells = cells,
          .lower_triangle = symmetric,
          .scale_min = scale_from(cells),
          .scale_max = 1,
          .marked_columns = config ? delta_layers(config->strip) : std::vector<int>{},
          .outlined = {}};
}

}  // namespace

Section recall_section(const Parts& parts) {
  Section section{"recall-section", "Recall", "", {}};
  const Config* config = parts.config ? &*parts.config : nullptr;
  if (parts.analysis && !parts.analysis->recall.empty())
    section.figures.push_back(recall_map(*parts.analysis, config));
  const int n = parts.config       ? parts.config->model.n_layers
                : parts.validation ? parts.validation->model.n_layers
                                   : 0;
  if (n > 0) {
    Figure figure = layer_recall(parts, static_cast<size_t>(n));
    if (!std::get<LineChart>(figure.body).series.empty()) section.figures.push_back(std::move(figure));
  }
  if (parts.analysis && !parts.config && !parts.analysis->oracle.empty())
    section.figures.push_back(oracle_alone(*parts.analysis));
  return section;
}

Section correlation_section(const Analysis& analysis, const Config* config) {
  Section section{"correlation", "Correlation of the layers", "", {}};
  if (!analysis.correlation) return section;
  const auto& c = *analysis.correlation;
  section.intro = fmt::format(
      "Averaged over the active steps of a sample, then over samples; {}. Symmetric, so the lower "
      "triangle is shown.",
      budget_text(c.k_pages, c.l_pages));
  const auto add = [&](const char* id, const char* name, const char* caption, const EstimateMatrix& cells) {
    section.figures.push_back({.id = id,
                               .title = name,
                               .caption = caption,
                               .counts = counts_text(analysis.counts),
                               .interval = interval_text(analysis.interval),
                               .width = Width::third,
                               .body = similarity(name, cells, config)});
  };
  add("cosine", "Cosine", "Cosine of the page scores of two layers at the same step.", c.cosine);
  add("pearson", "Pearson", "Pearson correlation of the page scores of two layers at the same step.",
      c.pearson);
  add("jaccard", "Jaccard", "Overlap of the chosen pages: those in both lists over those in either.",
      c.jaccard);
  return section;
}

}  // namespace deltacal::reports
