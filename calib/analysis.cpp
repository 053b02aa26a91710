#include "calib/analysis.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <set>
#include <tuple>

#include "core/error.h"
#include "core/hash.h"

namespace deltacal::calib {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// Samples to means with intervals, for the figures of one table.
class Summary {
 public:
  Summary(const std::vector<SampleAnalysis>& samples, const Bootstrap& bootstrap)
      : samples_(samples),
        resampler_(problems_of(samples), bootstrap),
        n_layers_(samples.front().recall.n_layers) {}

  const Resampler& resampler() const { return resampler_; }

  // of(sample, layer) -> value, NaN where missing
  template <class Of>
  RowEstimate row(Of of) const {
    Eigen::MatrixXd values(samples_.size(), n_layers_);
    for (Eigen::Index s = 0; s < values.rows(); ++s)
      for (int l = 0; l < n_layers_; ++l) values(s, l) = of(samples_[s], l);
    const Estimates all = resampler_.estimate(values);
    return {all.mean, all.low, all.high};
  }

  // of(sample, target, source) -> value, NaN where missing
  template <class Of>
  MatrixEstimate matrix(Of of) const {
    Eigen::MatrixXd values(samples_.size(), n_layers_ * n_layers_);
    for (Eigen::Index s = 0; s < values.rows(); ++s)
      for (int target = 0; target < n_layers_; ++target)
        for (int source = 0; source < n_layers_; ++source)
          values(s, source * n_layers_ + target) = of(samples_[s], target, source);
    const Estimates all = resampler_.estimate(values);
    return {all.mean.reshaped(n_layers_, n_layers_), all.low.reshaped(n_layers_, n_layers_),
            all.high.reshaped(n_layers_, n_layers_)};
  }

 private:
  static std::vector<std::string> problems_of(const std::vector<SampleAnalysis>& samples) {
    std::vector<std::string> out;
    for (const SampleAnalysis& sample : samples) out.push_back(sample.recall.problem);
    return out;
  }
  const std::vector<SampleAnalysis>& samples_;
  Resampler resampler_;
  int n_layers_;
};

int index_of_k(const Grid& grid, int k_pages) {
  return static_cast<int>(std::ranges::find(grid.k_pages, k_pages) - grid.k_pages.begin());
}

// The least over key/value heads of the mean over samples of a head's recall.
std::optional<Eigen::MatrixXd> worst_kv_head(const std::vector<SampleAnalysis>& samples, int pair) {
  const auto first = std::ranges::find_if(samples, [](const auto& s) { return s.recall.n_kv_heads > 0; });
  if (first == samples.end()) return std::nullopt;
  const int n_layers = first->recall.n_layers, n_heads = first->recall.n_kv_heads;
  Eigen::MatrixXd least = Eigen::MatrixXd::Constant(n_layers, n_layers, nan);
  for (int target = 0; target < n_layers; ++target)
    for (int source = 0; source <= target; ++source)
      for (int head = 0; head < n_heads; ++head) {
        double sum = 0;
        int count = 0;
        for (const auto& [recall, correlation, drift, stale] : samples) {
          if (recall.n_kv_heads == 0) continue;
          const double value = recall.group_active[recall.at(pair, target, source) * n_heads + head];
          if (std::isnan(value)) continue;
          sum += value;
          ++count;
        }
        if (count > 0)
          least(target, source) = std::fmin(least(target, source), sum / count);  // fmin skips NaN
      }
  return least;
}

RecallAnalysis summarise_recall(const std::vector<SampleAnalysis>& samples, const Summary& summary,
                                const RecallHistogram& histogram, const Grid& grid, int pair,
                                const Eigen::VectorXd& oracle) {
  const Budget budget = grid.pairs()[pair];
  RecallAnalysis out{budget, 0, 0, 0, {}, {}, {}, {}, worst_kv_head(samples, pair)};
  out.recall = summary.matrix([&](const SampleAnalysis& s, int target, int source) {
    return static_cast<double>(s.recall.mean_active[s.recall.at(pair, target, source)]);
  });
  const auto n_layers = out.recall.mean.rows();
  out.worst_step = out.p05 = Eigen::MatrixXd::Constant(n_layers, n_layers, nan);
  out.over_oracle = out.recall.mean.array().colwise() / oracle.array();
  std::set<std::string> problems;
  for (const SampleAnalysis& sample : samples) {
    const int n_active = sample.recall.n_active[index_of_k(grid, budget.k_pages)];
    if (n_active == 0) continue;
    ++out.n_samples;
    out.n_steps += n_active;
    problems.insert(sample.recall.problem);
    for (int target = 0; target < n_layers; ++target)
      for (int source = 0; source <= target; ++source)
        out.worst_step(target, source) =
            std::fmin(out.worst_step(target, source),
                      double(sample.recall.worst[sample.recall.at(pair, target, source)]));
  }
  out.n_problems = static_cast<int>(problems.size());
  for (int target = 0; target < n_layers; ++target)
    for (int source = 0; source <= target; ++source)
      out.p05(target, source) = histogram.quantile(pair, target, source, 0.05);
  return out;
}

std::vector<StaleAnalysis> summarise_stale(const std::vector<SampleAnalysis>& samples, const Summary& summary,
                                           const std::vector<Budget>& pairs) {
  std::vector<StaleAnalysis> out;
  for (std::size_t lag = 0; lag < stale_lags.size(); ++lag)
    for (std::size_t pair = 0; pair < pairs.size(); ++pair) {
      const auto value = [&](const SampleAnalysis& s, int layer) -> double {
        return s.stale.recall[(lag * pairs.size() + pair) * s.stale.n_layers + layer];
      };
      const auto has_value = [&](const SampleAnalysis& s) { return !std::isnan(value(s, 0)); };
      out.push_back({stale_lags[lag], pairs[pair],
                     static_cast<int>(std::ranges::count_if(samples, has_value)), summary.row(value)});
    }
  return out;
}

HalfLifeAnalysis summarise_half_life(const std::vector<StaleAnalysis>& stale, const Summary& summary,
                                     const std::vector<Budget>& pairs, const Budget& budget) {
  const std::size_t pair = std::ranges::find(pairs, budget) - pairs.begin();
  HalfLifeAnalysis out{budget, {}, {}};
  out.window_recall = summary
                          .row([&](const SampleAnalysis& s, int layer) {
                            return static_cast<double>(s.stale.window[pair * s.stale.n_layers + layer]);
                          })
                          .mean;
  for (Eigen::Index layer = 0; layer < out.window_recall.size(); ++layer) {
    std::vector<double> recall;
    for (std::size_t lag = 0; lag < stale_lags.size(); ++lag)
      recall.push_back(stale[lag * pairs.size() + pair].recall.mean[layer]);
    out.layers.push_back(half_life(recall, out.window_recall[layer]));
  }
  return out;
}

}  // namespace

Budget reference_budget(const Grid& grid) {
  const auto pairs = grid.pairs();
  return *std::ranges::min_element(pairs, {}, [](const Budget& b) {
    return std::tuple(std::abs(b.k_pages - 32), b.k_pages, std::abs(b.l_pages - 4), b.l_pages);
  });
}

SampleSums::SampleSums(const Grid& grid, int n_layers)
    : recall_(grid, n_layers),
      correlation_(reference_budget(grid), n_layers),
      drift_(n_layers),
      stale_(grid, n_layers) {}

void SampleSums::add(const StepMaps& maps, RecallHistogram& histogram) {
  recall_.add(maps, &histogram);
  correlation_.add(maps);
  drift_.add(maps);
  stale_.add(maps);
}

SampleAnalysis SampleSums::finish(std::string id, std::string problem) const {
  return {recall_.finish(std::move(id), std::move(problem)), correlation_.finish(), drift_.finish(),
          stale_.finish()};
}

Analysis summarise(const std::vector<SampleAnalysis>& samples, const RecallHistogram& histogram,
                   const Grid& grid, const Bootstrap& bootstrap) {
  if (samples.empty()) throw bad_input("analyze: no samples.");
  const Summary summary(samples, bootstrap);
  const std::vector<Budget> pairs = grid.pairs();
  Analysis out;
  out.n_samples = static_cast<int>(samples.size());
  out.n_problems = summary.resampler().n_problems();
  for (const SampleAnalysis& sample : samples) out.n_steps += sample.recall.n_steps;
  out.bootstrap = bootstrap;
  out.no_interval_reason = no_interval_reason(out.n_problems);
  out.grid = grid;
  for (std::size_t k = 0; k < grid.k_pages.size(); ++k)
    out.oracle.push_back({grid.k_pages[k], summary.row([&](const SampleAnalysis& s, int layer) {
                            return static_cast<double>(s.recall.oracle[k * s.recall.n_layers + layer]);
                          })});
  for (int pair = 0; pair < std::ssize(pairs); ++pair)
    out.recall.push_back(summarise_recall(samples, summary, histogram, grid, pair,
                                          out.oracle[index_of_k(grid, pairs[pair].k_pages)].recall.mean));
  const Budget reference = reference_budget(grid);
  const auto correlation = [&](Eigen::MatrixXd SampleCorrelation::*measure) {
    return summary.matrix([&](const SampleAnalysis& s, int target, int source) {
      return (s.correlation.*measure)(target, source);
    });
  };
  out.correlation = {reference, correlation(&SampleCorrelation::cosine),
                     correlation(&SampleCorrelation::pearson), correlation(&SampleCorrelation::jaccard)};
  out.layer_drift = summary.row([](const SampleAnalysis& s, int layer) { return s.drift.layer[layer]; });
  out.step_drift = summary.row([](const SampleAnalysis& s, int layer) { return s.drift.step[layer]; });
  out.stale = summarise_stale(samples, summary, pairs);
  out.half_life = summarise_half_life(out.stale, summary, pairs, reference);
  return out;
}

namespace {

std::vector<PredictedKlAnalysis> summarise_kl(const std::vector<SampleKl>& samples,
                                              const std::vector<Budget>& pairs, const Bootstrap& bootstrap) {
  std::vector<std::string> problems;
  for (const SampleKl& sample : samples) problems.push_back(sample.problem);
  const Resampler resampler(problems, bootstrap);
  const Eigen::Index n_layers = samples.front().n_layers;
  std::vector<PredictedKlAnalysis> out;
  for (int pair = 0; pair < std::ssize(pairs); ++pair) {
    Eigen::MatrixXd values(samples.size(), n_layers * n_layers);
    for (Eigen::Index s = 0; s < values.rows(); ++s)
      for (int target = 0; target < n_layers; ++target)
        for (int source = 0; source < n_layers; ++source)
          values(s, source * n_layers + target) = samples[s].kl[samples[s].at(pair, target, source)];
    const Estimates all = resampler.estimate(values);
    out.push_back({pairs[pair],
                   {all.mean.reshaped(n_layers, n_layers), all.low.reshaped(n_layers, n_layers),
                    all.high.reshaped(n_layers, n_layers)}});
  }
  return out;
}

}  // namespace

Analysis analyze(const trace::Reader& reader, const Grid& grid, const Bootstrap& bootstrap,
                 const StepsDone& done) {
  check(grid);
  const int n_layers = reader.model().n_layers;
  RecallHistogram histogram(static_cast<int>(grid.pairs().size()), n_layers);
  std::vector<SampleAnalysis> samples;
  for (int sample = 0; sample < reader.n_samples(); ++sample) {
    SampleSums sums(grid, n_layers);
    for_each_block(reader, sample, [&](const StepMaps& maps) {
      sums.add(maps, histogram);
      if (done) done(maps.n_steps);
    });
    samples.push_back(sums.finish(reader.info(sample).id, reader.info(sample).problem));
  }
  const auto recorded = [](const SampleAnalysis& s) { return s.recall.n_steps > 0; };
  if (std::ranges::none_of(samples, recorded))
    throw bad_input("trace {}: no recorded step in {} samples: nothing to analyze. Profile with --steps 256.",
                    reader.path(), samples.size());
  Analysis out = summarise(samples, histogram, grid, bootstrap);
  if (has_sensitivity(reader, grid))
    out.predicted_kl = summarise_kl(predicted_kl(reader, grid), grid.pairs(), bootstrap);
  out.model = reader.model();
  out.trace_path = reader.path();
  out.trace_sha256 = sha256_of_file(reader.path());
  return out;
}

}  // namespace deltacal::calib
