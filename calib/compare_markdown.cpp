#include "calib/compare_markdown.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "calib/markdown.h"

namespace deltacal::calib {
namespace {

using markdown::cell;
using markdown::interval;
using markdown::number;
using markdown::row;

std::string methods_table(const MethodComparison& c) {
  std::string out = row({"method", "attended ratio", "measured", "NLL gap", "minus " + cell(c.winner), "KL",
                         "predicted KL", "recall", "seconds", "schedule"});
  out += "|---|--:|--:|--:|--:|--:|--:|--:|--:|---|\n";
  for (const MethodRow& m : c.methods)
    out += row({m.name == c.winner ? "**" + cell(m.name) + "**" : cell(m.name), number(m.attended_ratio, 2),
                number(m.attended_ratio_measured, 2), interval(m.nll_gap, 4), interval(m.vs_winner, 4),
                interval(m.kl, 4), number(m.predicted_kl, 4), number(m.recall, 3), number(m.seconds, 1),
                cell(m.schedule)});
  return out;
}

std::string surrogates_table(const MethodComparison& c) {
  std::string out =
      row({"surrogate", "Spearman with NLL gap", "Kendall", "schedules"}) + "|---|--:|--:|--:|\n";
  for (const SurrogateRow& s : c.surrogates)
    out += row({cell(s.name), interval(s.rank.spearman, 2), number(s.rank.kendall, 2),
                std::to_string(s.rank.n_schedules)});
  return out;
}

std::string prediction_text(const Prediction& p) {
  std::string out = fmt::format("Measured KL is {} times the predicted KL over {} schedules",
                                interval(p.scale, 2), p.n_schedules);
  for (std::size_t i = 0; i < p.residuals.size(); ++i)
    out += fmt::format("{} {:.2f} with {}", i == 0 ? "; relative to that" : ",",
                       std::exp(p.residuals[i].mean), p.residuals[i].delta_layers);
  out += p.residuals.empty() ? ".\n" : " Δ-layers.\n";
  if (!p.warning.empty()) out += "\nWarning: " + p.warning + ".\n";
  return out;
}

// "2 100%, 14 85%": layers that are chosen at all.
std::string stability_text(const Stability& stability) {
  std::vector<std::string> layers;
  for (std::size_t layer = 0; layer < stability.share.size(); ++layer)
    if (stability.share[layer] > 0)
      layers.push_back(fmt::format("{} {:.0f}%", layer, 100 * stability.share[layer]));
  return fmt::format("Δ-layers of {} resamples of the calibration problems: {}.\n", stability.resamples,
                     fmt::join(layers, ", "));
}

std::string pareto_table(const MethodComparison& c) {
  std::string out = row({"budget", "attended ratio", "NLL gap", "KL", "predicted KL", "recall", "schedule"});
  out += "|--:|--:|--:|--:|--:|--:|---|\n";
  for (const ParetoRow& p : c.pareto)
    out += row({number(p.budget, 2), number(p.attended_ratio, 2), interval(p.nll_gap, 4), interval(p.kl, 4),
                number(p.predicted_kl, 4), number(p.recall, 3), cell(p.schedule)});
  return out;
}

}  // namespace

std::string to_markdown(const MethodComparison& c) {
  std::string out = methods_table(c);
  out += fmt::format(
      "\n{} samples of {} problems; NLL gap and KL in nats a token, {}. Attended ratios: on the lengths that "
      "the budget was "
      "met on, then of the runs on these samples.\n",
      c.n_samples, c.n_problems,
      c.no_interval_reason.empty()
          ? fmt::format("{:g}% intervals over problems in brackets", 100 * c.bootstrap.confidence)
          : "without intervals: " + c.no_interval_reason);
  if (!c.surrogates.empty()) out += "\n" + surrogates_table(c);
  if (c.prediction) out += "\n" + prediction_text(*c.prediction);
  if (!c.stability.share.empty()) out += "\n" + stability_text(c.stability);
  if (!c.pareto.empty()) out += "\n" + pareto_table(c);
  return out;
}

}  // namespace deltacal::calib
