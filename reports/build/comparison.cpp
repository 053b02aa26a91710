// Methods of choosing a schedule, by what their schedules lose on the same samples.
#include <fmt/format.h>

#include <cmath>

#include "reports/build/parts.h"
#include "reports/format.h"

namespace deltacal::reports {
namespace {

Quantity predicted_kl() {
  return {"Predicted KL", "nats/token", 4};
}

Figure methods(const Comparison& c) {
  Table table{{quantity::text("Method"),
               quantity::ratio(),
               quantity::nll_gap(),
               {"NLL minus " + c.winner + "'s", "nats/token", 4, true},
               quantity::kl("KL"),
               predicted_kl(),
               quantity::recall("Mean recall"),
               {"Choosing took", "s", 2},
               quantity::text("Schedule")},
              {}};
  for (const auto& m : c.methods)
    table.rows.push_back({m.name, only(m.attended_ratio), m.nll_gap, m.vs_winner, m.kl, only(m.predicted_kl),
                          only(m.recall), only(m.seconds), m.schedule});
  return {.id = "methods",
          .title = "Methods at equal cost",
          .caption = fmt::format(
              "Every method's schedule on the same development samples. The others are compared with "
              "{}, sample by sample: above 0, they lose more.",
              c.winner),
          .counts = counts_text(c.counts),
          .interval = interval_text(c.interval),
          .body = std::move(table)};
}

Figure gaps(const Comparison& c) {
  DotWhisker chart{quantity::nll_gap(), "Method", {}, {}};
  for (const auto& m : c.methods) chart.rows.push_back({m.name, m.nll_gap, {}});
  return {.id = "methods-nll-gap",
          .title = "NLL gap of each method",
          .caption = "The third column of the table; left is better.",
          .counts = counts_text(c.counts),
          .interval = interval_text(c.interval),
          .width = Width::half,
          .body = std::move(chart)};
}

Figure differences(const Comparison& c) {
  DotWhisker chart{{"NLL minus " + c.winner + "'s", "nats/token", 4, true}, "Method", {}, {}};
  for (const auto& m : c.methods)
    if (m.vs_winner.has_value()) chart.rows.push_back({m.name, m.vs_winner, {}});
  return {.id = "methods-difference",
          .title = "Paired differences",
          .caption = fmt::format(
              "Each method's NLL less that of {} on the same sample. An interval that excludes 0 tells "
              "the two apart.",
              c.winner),
          .counts = counts_text(c.counts),
          .interval = interval_text(c.interval),
          .width = Width::half,
          .body = std::move(chart)};
}

Figure front(const Comparison& c) {
  Scatter chart{quantity::ratio(), quantity::nll_gap(), {}};
  Scatter::Series budgets{c.winner + " by budget", {}, true};
  for (const auto& b : c.budgets)
    budgets.points.push_back({fmt::format("{:g}", b.budget), b.attended_ratio, b.nll_gap});
  if (!budgets.points.empty()) chart.series.push_back(std::move(budgets));
  for (const auto& m : c.methods)
    if (m.name != c.winner)
      chart.series.push_back({m.name, {{c.budget, m.attended_ratio, m.nll_gap}}, false});
  return {.id = "pareto",
          .title = "Attended-token ratio against NLL gap",
          .caption = fmt::format(
              "Schedules of {} at several budgets, and the other methods at {}. Right and below is "
              "better. The value axis is logarithmic; what is not above 0 is drawn at its foot.",
              c.winner, c.budget),
          .counts = counts_text(c.counts),
          .interval = interval_text(c.interval),
          .body = std::move(chart)};
}

Figure front_table(const Comparison& c) {
  Table table{{{"Budget", "", 2},
               quantity::ratio(),
               quantity::nll_gap(),
               quantity::kl("KL"),
               predicted_kl(),
               quantity::recall("Mean recall"),
               quantity::text("Schedule")},
              {}};
  for (const auto& b : c.budgets)
    table.rows.push_back({fmt::format("{:g}", b.budget), only(b.attended_ratio), b.nll_gap, b.kl,
                          only(b.predicted_kl), only(b.recall), b.schedule});
  return {.id = "pareto-schedules",
          .title = "Schedules of " + c.winner + " by budget",
          .caption = "Budget: the attended-token ratio asked for.",
          .counts = counts_text(c.counts),
          .interval = interval_text(c.interval),
          .body = std::move(table)};
}

Figure surrogates(const Comparison& c) {
  Table table{
      {quantity::text("Surrogate"), {"Spearman", "", 3}, {"Kendall", "", 3}, quantity::whole("Schedules")},
      {}};
  for (const auto& s : c.surrogates)
    table.rows.push_back({s.name, s.spearman, only(s.kendall), whole(s.n_schedules)});
  return {.id = "surrogates",
          .title = "What orders schedules",
          .caption = "Rank correlation of what a schedule can be chosen by with its measured NLL gap.",
          .counts = counts_text(c.counts),
          .interval = interval_text(c.interval),
          .width = Width::half,
          .body = std::move(table)};
}

Figure prediction(const Comparison& c) {
  const auto& p = *c.prediction;
  Table table{{quantity::text("\u0394-layers"),
               quantity::whole("Schedules"),
               {"Mean", "log ratio", 2, true},
               {"Least", "log ratio", 2, true},
               {"Largest", "log ratio", 2, true}},
              {}};
  for (const auto& r : p.residuals)
    table.rows.push_back({fmt::format("{}", r.delta_layers), whole(r.n_schedules), only(r.mean),
                          only(r.least), only(r.largest)});
  std::string caption = fmt::format(
      "Measured KL is {} times the predicted KL over {} schedules; the table is the logarithm of what "
      "remains, by the "
      "number of \u0394-layers.",
      estimate(p.scale, {"", "", 2}), p.n_schedules);
  if (!p.warning.empty()) caption += " Warning: " + p.warning + ".";
  return {.id = "prediction",
          .title = "Measured against predicted KL",
          .caption = caption,
          .counts = counts_text(c.counts),
          .interval = interval_text(c.interval),
          .width = Width::half,
          .body = std::move(table)};
}

Figure stability(const Comparison& c) {
  Figure figure{.id = "stability", .title = "Stability of the \u0394-layers"};
  if (c.stability.empty()) {
    figure.body = Text{{c.stability_reason.empty() ? "The file does not tell." : c.stability_reason + "."}};
    return figure;
  }
  Heatmap map;
  map.quantity = {"Share of resamples", "fraction", 2};
  map.column_label = "Layer";
  map.rows = {"chosen"};
  map.columns = layer_names(c.stability.size());
  map.cells.emplace_back();
  for (const double share : c.stability) map.cells[0].push_back(only(share));
  for (const auto& m : c.methods)
    if (m.name == c.winner) map.marked_columns = m.delta_layers;
  figure.caption = fmt::format(
      "How often each layer is a \u0394-layer of {} when the calibration problems are resampled; "
      "triangles: its choice on all of them.",
      c.winner);
  figure.counts = fmt::format("{} resamples", grouped(c.stability_resamples));
  figure.body = std::move(map);
  return figure;
}

}  // namespace

Section comparison_section(const Comparison& c) {
  Section section{"comparison", "Methods compared", "", {}};
  section.intro = fmt::format(
      "Budget {}{}, objective {}{}.", c.budget.empty() ? "not told" : c.budget,
      c.context > 0 ? fmt::format(" on steps 0 to {} of one sequence", grouped(c.context - 1)) : "",
      c.objective.empty() ? "not told" : c.objective, limits_text(c.max_tokens, c.pack));
  section.figures.push_back(methods(c));
  section.figures.push_back(gaps(c));
  section.figures.push_back(differences(c));
  if (!c.budgets.empty()) {
    section.figures.push_back(front(c));
    section.figures.push_back(front_table(c));
  }
  if (!c.surrogates.empty()) section.figures.push_back(surrogates(c));
  if (c.prediction) section.figures.push_back(prediction(c));
  section.figures.push_back(stability(c));
  return section;
}

}  // namespace deltacal::reports
