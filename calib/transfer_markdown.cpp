#include <fmt/format.h>

#include "calib/markdown.h"
#include "calib/transfer_json.h"

namespace deltacal::calib {
namespace {

using markdown::cell;
using markdown::interval;
using markdown::number;
using markdown::row;

std::string name_of(const std::string& task) {
  return task.empty() ? "(no task)" : cell(task);
}

// "24 samples with 283 problems packed, 24 units, 2109 tokens each": what a row or a column stands for. A
// unit of the intervals is a problem, or all that are packed together.
std::string text_of(const SampleCounts& counts) {
  return fmt::format("{} samples{}, {} units, {:.0f} tokens each", counts.n_samples,
                     counts.n_packed > 0 ? fmt::format(" with {} problems packed", counts.n_packed) : "",
                     counts.n_problems, counts.mean_tokens);
}

// A row for each schedule, a column for each task measured on, `text` of each cell.
template <class Text>
std::string matrix(const Transfer& t, const std::string& corner, Text text) {
  std::vector<std::string> head{corner};
  std::string rule = "|---|";
  for (const MeasuredTask& measured : t.measured_on) {
    head.push_back(name_of(measured.samples.task));
    rule += "--:|";
  }
  std::string out = row(head) + rule + "\n";
  for (std::size_t i = 0; i < t.schedules.size(); ++i) {
    std::vector<std::string> cells{name_of(t.schedules[i].on.task)};
    for (const TransferCell& one : t.matrix[i]) cells.push_back(text(one));
    out += row(cells);
  }
  return out;
}

std::string schedules_table(const Transfer& t) {
  std::string out =
      row({"calibrated on", "samples", "attended ratio there", "schedule"}) + "|---|---|--:|---|\n";
  for (const TransferSchedule& s : t.schedules)
    out += row(
        {name_of(s.on.task), text_of(s.on), number(s.attended_ratio, 2), cell(config::describe(s.schedule))});
  return out;
}

std::string measured_table(const Transfer& t) {
  std::string out = row({"measured on", "samples", "intervals"}) + "|---|---|---|\n";
  for (const MeasuredTask& m : t.measured_on)
    out += row({name_of(m.samples.task), text_of(m.samples),
                m.no_interval_reason.empty() ? fmt::format("{:g}% over units", 100 * t.bootstrap.confidence)
                                             : "none: " + m.no_interval_reason});
  return out;
}

std::string curve_table(const Transfer& t) {
  std::string out = row({"samples", "steps of each", "draws", "schedules", "NLL gap",
                         "minus that of everything", "best to worst draw", "KL"});
  out += "|--:|--:|--:|--:|--:|--:|--:|--:|\n";
  for (const CurveRow& c : t.learning_curve)
    out += row({std::to_string(c.n_samples), std::to_string(c.n_steps),
                c.n_unsolved > 0 ? fmt::format("{} of {}", c.n_draws, c.n_draws + c.n_unsolved)
                                 : std::to_string(c.n_draws),
                std::to_string(c.n_schedules), interval(c.nll_gap, 4), interval(c.vs_all, 4),
                fmt::format("{} to {}", number(c.least, 4), number(c.largest, 4)), interval(c.kl, 4)});
  return out;
}

}  // namespace

std::string to_markdown(const Transfer& t) {
  std::string out = fmt::format(
      "NLL gap in nats a token at {}, met on {}; rows: calibrated on, columns: measured on.\n\n", t.budget,
      t.context > 0 ? fmt::format("steps 0 to {} of one sequence", t.context - 1)
                    : "the calibration samples' own lengths");
  out += matrix(t, "calibrated on", [](const TransferCell& c) { return interval(c.nll_gap, 4); });
  out += "\nMinus the NLL gap of the schedule calibrated on the measured task, paired by sample:\n\n";
  out += matrix(t, "calibrated on", [](const TransferCell& c) { return interval(c.vs_own, 4); });
  out += "\nAttended-token ratio on the measured samples:\n\n";
  out += matrix(t, "calibrated on", [](const TransferCell& c) { return number(c.attended_ratio, 2); });
  out += "\nA unit of the intervals is a problem, or all problems that are packed together.\n\n";
  out += measured_table(t) + "\n" + schedules_table(t);
  if (!t.learning_curve.empty())
    out +=
        "\nCalibrated on fewer samples or steps, measured on all development samples:\n\n" + curve_table(t);
  if (!t.curve_reason.empty()) out += "\n" + t.curve_reason + ".\n";
  return out;
}

}  // namespace deltacal::calib
