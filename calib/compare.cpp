#include "calib/compare.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"

namespace deltacal::calib {
namespace {

// As many samples as there are, the same ones missing as in `model`, and all others finite.
void check_samples(const MeasuredSchedule& schedule, const std::vector<double>& values,
                   const std::vector<double>& model, std::size_t n_samples, const char* what) {
  if (values.size() != n_samples)
    throw bad_input("method {}: {} of {} samples, expected {}", schedule.method, what, values.size(),
                    n_samples);
  for (std::size_t s = 0; s < n_samples; ++s) {
    if (std::isinf(values[s]))
      throw bad_input("method {}: the {} of sample {} is {}", schedule.method, what, s, values[s]);
    if (std::isnan(values[s]) != std::isnan(model[s]))
      throw bad_input(
          "method {}: the {} of sample {} is {}, that of the winner is {}: methods are compared on the "
          "same samples",
          schedule.method, what, s, values[s], model[s]);
  }
}

const MeasuredSchedule& winner_of(const Measurements& measured) {
  const auto found = std::ranges::find(measured.methods, measured.winner, &MeasuredSchedule::method);
  if (found == measured.methods.end())
    throw bad_input("the winner \"{}\" is no method of the table", measured.winner);
  return *found;
}

void check(const Measurements& measured) {
  if (measured.methods.empty()) throw bad_input("no method to compare");
  if (measured.problems.empty()) throw bad_input("no sample to compare methods on");
  const auto& winner = winner_of(measured);
  const std::size_t n = measured.problems.size();
  if (winner.nll_gap.size() != n)
    throw bad_input("method {}: NLL gaps of {} samples, expected {}", winner.method, winner.nll_gap.size(),
                    n);
  const auto check_one = [&](const MeasuredSchedule& schedule) {
    check_samples(schedule, schedule.nll_gap, winner.nll_gap, n, "NLL gap");
    check_samples(schedule, schedule.kl, winner.nll_gap, n, "KL");
  };
  const auto check_surrogates = [&](const MeasuredSchedule& schedule) {
    if (!schedule.is_mean && schedule.surrogates.size() != measured.surrogates.size())
      throw bad_input("method {}: {} surrogates, expected {}", schedule.method, schedule.surrogates.size(),
                      measured.surrogates.size());
  };
  std::set<std::string> names;
  for (const auto* list : {&measured.methods, &measured.others})
    for (const auto& schedule : *list) check_one(schedule), check_surrogates(schedule);
  for (const auto& schedule : measured.methods)
    if (!names.insert(schedule.method).second) throw bad_input("two rows of the method {}", schedule.method);
  for (const auto& [budget, schedule] : measured.budgets)
    if (!schedule.nll_gap.empty() || !schedule.kl.empty()) check_one(schedule);
}

// The schedules that surrogates are held against, with their figures by sample.
struct Ranked {
  std::vector<const MeasuredSchedule*> schedules;
  Eigen::MatrixXd nll_gap, kl;    // [n_samples, n_schedules]
  std::vector<int> delta_layers;  // [n_schedules] number

  explicit Ranked(const Measurements& measured) {
    for (const auto* list : {&measured.methods, &measured.others})
      for (const auto& schedule : *list)
        if (!schedule.is_mean) schedules.push_back(&schedule);
    nll_gap.resize(std::ssize(measured.problems), std::ssize(schedules));
    kl.resizeLike(nll_gap);
    for (Eigen::Index i = 0; i < nll_gap.cols(); ++i) {
      delta_layers.push_back(static_cast<int>(schedules[i]->delta_layers.size()));
      for (Eigen::Index s = 0; s < nll_gap.rows(); ++s) {
        nll_gap(s, i) = schedules[i]->nll_gap[s];
        kl(s, i) = schedules[i]->kl[s];
      }
    }
  }

  template <class Value>
  std::vector<double> values(Value value) const {
    std::vector<double> out;
    for (const auto* schedule : schedules) out.push_back(value(*schedule));
    return out;
  }
};

MethodRow row_of(const MeasuredSchedule& m, const MeasuredSchedule& winner, const Resampler& resampler) {
  MethodRow row{m.method,
                m.schedule,
                m.delta_layers,
                m.attended_ratio,
                m.attended_ratio_measured,
                m.predicted_kl,
                m.recall,
                resampler.estimate(m.nll_gap),
                resampler.estimate(m.kl),
                {},
                m.seconds};
  if (&m == &winner) return row;
  std::vector<double> difference;
  for (std::size_t s = 0; s < m.nll_gap.size(); ++s) difference.push_back(m.nll_gap[s] - winner.nll_gap[s]);
  row.vs_winner = resampler.estimate(difference);
  return row;
}

ParetoRow row_of(const MeasuredBudget& point, const Resampler& resampler) {
  const MeasuredSchedule& m = point.schedule;
  ParetoRow row{point.budget, m.attended_ratio, m.predicted_kl, m.recall, m.schedule, m.delta_layers, {}, {}};
  if (m.nll_gap.empty()) return row;
  row.nll_gap = resampler.estimate(m.nll_gap);
  row.kl = resampler.estimate(m.kl);
  return row;
}

}  // namespace

MeasuredSchedule measured_schedule(std::string method, const config::Schedule& schedule) {
  MeasuredSchedule out;
  out.method = std::move(method);
  out.schedule = config::describe(schedule);
  for (int layer = 0; layer < static_cast<int>(schedule.layers.size()); ++layer)
    if (schedule.layers[layer].role == config::Role::delta) out.delta_layers.push_back(layer);
  return out;
}

MeasuredSchedule mean_of_schedules(std::string method, std::span<const MeasuredSchedule> schedules) {
  if (schedules.empty()) throw bad_input("method {}: no schedules to take the mean of", method);
  MeasuredSchedule out;
  out.schedule = fmt::format("mean of {} schedules", schedules.size());
  out.is_mean = true;
  const auto mean = [&](auto value) {
    double sum = 0;
    for (const auto& schedule : schedules) sum += value(schedule);
    return sum / static_cast<double>(schedules.size());
  };
  out.attended_ratio = mean([](const auto& s) { return s.attended_ratio; });
  out.attended_ratio_measured = mean([](const auto& s) { return s.attended_ratio_measured; });
  out.predicted_kl = mean([](const auto& s) { return s.predicted_kl; });
  out.recall = mean([](const auto& s) { return s.recall; });
  const std::size_t n = schedules[0].nll_gap.size();
  for (const auto& schedule : schedules) {
    if (schedule.nll_gap.size() != n || schedule.kl.size() != n)
      throw bad_input("method {}: figures of {} and {} samples, expected {}", method, schedule.nll_gap.size(),
                      schedule.kl.size(), n);
    out.seconds += schedule.seconds;
  }
  for (std::size_t i = 0; i < n; ++i) {
    out.nll_gap.push_back(mean([i](const auto& s) { return s.nll_gap[i]; }));
    out.kl.push_back(mean([i](const auto& s) { return s.kl[i]; }));
  }
  out.method = std::move(method);
  return out;
}

MethodComparison compare_methods(const Measurements& measured, const Bootstrap& bootstrap) {
  check(measured);
  const Resampler resampler(measured.problems, bootstrap);
  const MeasuredSchedule& winner = winner_of(measured);
  MethodComparison out;
  out.bootstrap = bootstrap;
  out.winner = measured.winner;
  for (const auto& method : measured.methods) out.methods.push_back(row_of(method, winner, resampler));
  const Estimate gap = resampler.estimate(winner.nll_gap);
  out.n_samples = gap.n_samples;
  out.n_problems = gap.n_problems;
  out.no_interval_reason = no_interval_reason(gap.n_problems);
  const Ranked ranked(measured);
  for (std::size_t i = 0; i < measured.surrogates.size(); ++i) {
    const auto values = ranked.values([i](const MeasuredSchedule& s) { return s.surrogates[i]; });
    out.surrogates.push_back(
        {measured.surrogates[i], rank_correlation(values, ranked.nll_gap, measured.problems, bootstrap)});
  }
  const auto predicted = ranked.values([](const MeasuredSchedule& s) { return s.predicted_kl; });
  if (std::ranges::any_of(predicted, [](double kl) { return !std::isnan(kl); }))
    out.prediction =
        check_prediction(predicted, ranked.kl, ranked.delta_layers, measured.problems, bootstrap);
  for (const auto& point : measured.budgets) out.pareto.push_back(row_of(point, resampler));
  return out;
}

}  // namespace deltacal::calib
