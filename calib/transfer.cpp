#include "calib/transfer.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"

namespace deltacal::calib {
namespace {

// The values of some samples.
std::vector<double> at(std::span<const double> values, std::span<const int> samples) {
  std::vector<double> out;
  for (const int s : samples) out.push_back(values[s]);
  return out;
}

void check_figures(const TransferSchedule& schedule, const std::vector<double>& values, std::size_t n,
                   const char* what) {
  if (values.size() != n)
    throw bad_input("the schedule of {}: {} of {} samples, expected {}", schedule.on.task, what,
                    values.size(), n);
  for (std::size_t s = 0; s < n; ++s)
    if (!std::isfinite(values[s]))
      throw bad_input("the schedule of {}: the {} of sample {} is {}", schedule.on.task, what, s, values[s]);
}

void check(std::span<const TransferSample> development, const std::vector<TransferSchedule>& schedules) {
  if (development.empty()) throw bad_input("no sample to measure schedules on");
  if (schedules.empty() || schedules.back().on.task != all_tasks)
    throw bad_input("the last schedule must be the one calibrated on all tasks");
  std::set<std::string> tasks;
  for (const TransferSchedule& schedule : schedules) {
    if (!tasks.insert(schedule.on.task).second)
      throw bad_input("two schedules of the task {}", schedule.on.task);
    check_figures(schedule, schedule.nll_gap, development.size(), "NLL gap");
    check_figures(schedule, schedule.kl, development.size(), "KL");
  }
}

// One task's samples, with the resamples that all schedules share on them.
struct Column {
  std::vector<int> samples;
  std::vector<config::StepRange> ranges;
  Resampler resampler;

  Column(std::span<const TransferSample> all, const std::string& task, const Bootstrap& bootstrap)
      : samples(samples_of(all, task)), resampler(problems_of(all, samples), bootstrap) {
    for (const int s : samples) ranges.push_back(all[s].steps);
  }
  static std::vector<std::string> problems_of(std::span<const TransferSample> all,
                                              const std::vector<int>& samples) {
    std::vector<std::string> problems;
    for (const int s : samples) problems.push_back(all[s].problem);
    return problems;
  }

  TransferCell cell(const TransferSchedule& schedule, const TransferSchedule* own) const {
    const std::vector<double> gap = at(schedule.nll_gap, samples);
    TransferCell cell{config::attended_ratio(schedule.schedule, ranges),
                      resampler.estimate(gap),
                      resampler.estimate(at(schedule.kl, samples)),
                      {}};
    if (own == nullptr || own == &schedule) return cell;
    std::vector<double> difference = at(own->nll_gap, samples);
    for (std::size_t s = 0; s < difference.size(); ++s) difference[s] = gap[s] - difference[s];
    cell.vs_own = resampler.estimate(difference);
    return cell;
  }
};

}  // namespace

std::vector<std::string> tasks_of(std::span<const TransferSample> samples) {
  std::vector<std::string> tasks;
  for (const TransferSample& sample : samples) {
    if (sample.task == all_tasks)
      throw bad_input("a task is called \"{}\", which is the name for all of them together: rename it",
                      all_tasks);
    if (std::ranges::find(tasks, sample.task) == tasks.end()) tasks.push_back(sample.task);
  }
  return tasks;
}

std::vector<int> samples_of(std::span<const TransferSample> samples, const std::string& task) {
  std::vector<int> indices;
  for (int i = 0; i < static_cast<int>(samples.size()); ++i)
    if (task == all_tasks || samples[i].task == task) indices.push_back(i);
  return indices;
}

SampleCounts counts_of(std::span<const TransferSample> samples, const std::string& task) {
  SampleCounts counts;
  counts.task = task;
  std::set<std::string> problems, packed;
  double tokens = 0;
  for (const int i : samples_of(samples, task)) {
    ++counts.n_samples;
    tokens += samples[i].steps.end;
    problems.insert(samples[i].problem);
    packed.insert(samples[i].parts.begin(), samples[i].parts.end());
  }
  counts.n_problems = static_cast<int>(problems.size());
  counts.n_packed = static_cast<int>(packed.size());
  counts.mean_tokens = tokens / counts.n_samples;
  return counts;
}

void measure_transfer(std::span<const TransferSample> development, std::span<const MeasuredPoint> curve,
                      const Bootstrap& bootstrap, Transfer& out) {
  check(development, out.schedules);
  out.bootstrap = bootstrap;
  std::vector<std::string> tasks = tasks_of(development);
  tasks.push_back(all_tasks);
  out.matrix.assign(out.schedules.size(), {});
  for (const std::string& task : tasks) {
    const Column column(development, task, bootstrap);
    const SampleCounts counts = counts_of(development, task);
    out.measured_on.push_back({counts, no_interval_reason(counts.n_problems)});
    const auto own = std::ranges::find(out.schedules, task, [](const auto& s) { return s.on.task; });
    for (std::size_t i = 0; i < out.schedules.size(); ++i)
      out.matrix[i].push_back(column.cell(out.schedules[i], own == out.schedules.end() ? nullptr : &*own));
  }
  const Column everything(development, all_tasks, bootstrap);
  for (const MeasuredPoint& point : curve)
    out.learning_curve.push_back(curve_row(point, out.schedules.back().nll_gap, everything.resampler));
}

}  // namespace deltacal::calib
