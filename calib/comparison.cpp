#include "calib/comparison.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <utility>

#include "core/error.h"
#include "core/pages.h"

namespace deltacal::calib {
namespace {

// Positions from..to-1.
constexpr std::array<std::pair<int, int>, 8> bin_edges{{{0, 1024},
                                                        {1024, 2048},
                                                        {2048, 4096},
                                                        {4096, 8192},
                                                        {8192, 16384},
                                                        {16384, 32768},
                                                        {32768, 65536},
                                                        {65536, std::numeric_limits<int>::max()}}};

// A figure that is no number must not drop out of a mean as if it were missing: it would hide the worst
// steps.
void check_finite(const EvaluatedSample& sample, const std::string& policy, const std::vector<float>& values,
                  const char* what) {
  const size_t n = values.size();
  for (size_t i = 0; i < n; ++i) {
    const bool last_nll = what[0] == 'N' && i + 1 == n;  // the last token has no next one
    if (!std::isfinite(values[i]) && !last_nll)
      throw bad_input("sample {}, policy {}: the {} at position {} is {}; run again with --dtype f32",
                      sample.id, policy, what, sample.first_step + static_cast<int>(i), values[i]);
  }
}

void check(const Evaluation& evaluation) {
  if (evaluation.samples.empty()) throw bad_input("no sample to validate on");
  if (evaluation.policies.empty()) throw bad_input("no policy to compare with full attention");
  for (const auto& sample : evaluation.samples) {
    const auto steps = static_cast<size_t>(std::max(0, sample.n_tokens - sample.first_step));
    if (sample.policies.size() != evaluation.policies.size())
      throw bad_input("sample {} has figures of {} policies, expected {}", sample.id, sample.policies.size(),
                      evaluation.policies.size());
    bool fits = sample.first_step >= 0 && sample.nll_full.size() == steps;
    for (const auto& policy : sample.policies)
      fits = fits && policy.nll.size() == steps && policy.kl.size() == steps && policy.top1.size() == steps;
    if (!fits) throw bad_input("sample {}: figures of other than its {} steps", sample.id, steps);
    check_finite(sample, "full", sample.nll_full, "NLL");
    for (size_t p = 0; p < sample.policies.size(); ++p) {
      check_finite(sample, evaluation.policies[p], sample.policies[p].nll, "NLL");
      check_finite(sample, evaluation.policies[p], sample.policies[p].kl, "KL");
    }
  }
}

// Sums over some steps of one sample. The NLL of the last step is missing; its KL is not.
struct StepSums {
  int n = 0, n_nll = 0;
  double nll_full = 0, nll = 0, kl = 0, top1 = 0;
  void add(float full, float policy, float divergence, bool same) {
    ++n;
    kl += divergence;
    top1 += same;
    if (std::isnan(full) || std::isnan(policy)) return;
    ++n_nll;
    nll_full += full;
    nll += policy;
  }
  SampleScores means() const {
    SampleScores scores;
    if (n > 0) scores.kl = kl / n, scores.top1 = top1 / n;
    if (n_nll > 0) scores.nll_full = nll_full / n_nll, scores.nll = nll / n_nll;
    return scores;
  }
};

// Which steps are looked at.
struct Range {
  int from = 0, to = std::numeric_limits<int>::max();  // positions from..to-1
  int above_pages = 0;                                 // steps that see more pages than this
  bool holds(int t) const { return t >= from && t < to && pages_seen(t) > above_pages; }
};

// Never active where no layer of the config under test is sparse.
int active_above(const Evaluation& e) {
  return e.smallest_k > 0 ? e.smallest_k : std::numeric_limits<int>::max();
}

// The figures of one policy sample by sample, for any set of steps.
class PolicyView {
 public:
  // policy -1: full attention itself
  PolicyView(const Evaluation& e, int policy) : e_(e), policy_(policy) {}

  StepSums sums(size_t s, const Range& range, std::vector<float>* all_kl = nullptr) const {
    const auto& sample = e_.samples[s];
    StepSums sums;
    for (int i = 0; i < static_cast<int>(sample.nll_full.size()); ++i) {
      if (!range.holds(sample.first_step + i)) continue;
      const float divergence = policy_ < 0 ? 0 : of(s).kl[i];
      sums.add(sample.nll_full[i], policy_ < 0 ? sample.nll_full[i] : of(s).nll[i], divergence,
               policy_ < 0 || of(s).top1[i] != 0);
      if (all_kl) all_kl->push_back(divergence);
    }
    return sums;
  }

  double attended_ratio() const {
    double attended = 0, positions = 0;
    for (size_t s = 0; s < e_.samples.size(); ++s) {
      positions += static_cast<double>(e_.samples[s].positions);
      attended += static_cast<double>(policy_ < 0 ? e_.samples[s].positions : of(s).attended);
    }
    return attended > 0 ? positions / attended : missing;
  }

  const EvaluatedPolicy& of(size_t s) const { return e_.samples[s].policies[policy_]; }

 private:
  const Evaluation& e_;
  int policy_;
};

// One policy of the result.
class Summary {
 public:
  Summary(const Evaluation& e, const Resampler& resampler) : e_(e), resampler_(resampler) {}

  Scores scores(const PolicyView& view, const Range& range) const {
    Eigen::MatrixXd values(e_.samples.size(), 4);  // NLL, gap, KL, top-1 of each sample
    std::vector<float> all_kl;
    Scores scores;
    for (size_t s = 0; s < e_.samples.size(); ++s) {
      const StepSums sums = view.sums(s, range, &all_kl);
      const SampleScores means = sums.means();
      scores.n_steps += sums.n;
      values.row(static_cast<Eigen::Index>(s)) << means.nll, means.nll - means.nll_full, means.kl, means.top1;
    }
    const Estimates estimates = resampler_.estimate(values);
    scores.nll = estimates.mean[0];
    scores.nll_gap = estimates.at(1);
    scores.kl = estimates.at(2);
    scores.top1 = estimates.mean[3];
    scores.n_samples = scores.kl.n_samples;
    scores.n_problems = scores.kl.n_problems;
    if (!all_kl.empty()) {
      std::vector<double> pooled(all_kl.begin(), all_kl.end());
      scores.kl_median = quantile_in_place(pooled, 0.5);
      scores.kl_p99 = quantile_in_place(pooled, 0.99);
    }
    return scores;
  }

  PolicyResult result(const std::string& name, const PolicyView& view) const {
    const int active = active_above(e_);
    PolicyResult result;
    result.name = name;
    result.attended_ratio = view.attended_ratio();
    result.active = scores(view, {.above_pages = active});
    result.all = scores(view, {});
    for (const auto& [from, to] : bin_edges) {
      Bin bin{from, to, scores(view, {from, to, active}), scores(view, {from, to, 0})};
      if (bin.all.n_steps > 0) result.bins.push_back(std::move(bin));
    }
    for (size_t s = 0; s < e_.samples.size(); ++s) {
      const StepSums sums = view.sums(s, {.above_pages = active});
      result.samples.push_back(
          {e_.samples[s].id, e_.samples[s].problem, sums.n, sums.means(), view.sums(s, {}).means()});
      result.samples_without_active += sums.n == 0;
    }
    return result;
  }

  std::vector<std::pair<int, Estimate>> recall(const PolicyView& view) const {
    std::map<int, std::vector<double>> by_layer;  // [n_samples] each
    for (size_t s = 0; s < e_.samples.size(); ++s)
      for (const auto& [layer, mean] : view.of(s).recall)
        by_layer.try_emplace(layer, e_.samples.size(), missing).first->second[s] = mean;
    std::vector<std::pair<int, Estimate>> recall;
    for (const auto& [layer, values] : by_layer) recall.emplace_back(layer, resampler_.estimate(values));
    return recall;
  }

  // Paired: the difference of each sample, on active steps.
  Estimate difference(const PolicyResult& policy, const PolicyResult& tested) const {
    std::vector<double> values;
    for (size_t s = 0; s < policy.samples.size(); ++s)
      values.push_back(policy.samples[s].active.nll - tested.samples[s].active.nll);
    return resampler_.estimate(values);
  }

 private:
  const Evaluation& e_;
  const Resampler& resampler_;
};

void judge(Validation& validation, const PolicyResult& tested, const Thresholds& thresholds) {
  if (thresholds.max_nll_gap) {
    const Estimate& gap = tested.active.nll_gap;
    validation.thresholds.push_back({"max_nll_gap", *thresholds.max_nll_gap, gap.mean, gap.high,
                                     gap.high && *gap.high <= *thresholds.max_nll_gap});
  }
  if (thresholds.min_attended_ratio) {
    const double ratio = tested.attended_ratio, limit = *thresholds.min_attended_ratio;
    validation.thresholds.push_back({"min_attended_ratio", limit, ratio, ratio, ratio >= limit});
  }
  if (validation.thresholds.empty()) return;
  validation.passed = std::all_of(validation.thresholds.begin(), validation.thresholds.end(),
                                  [](const ThresholdResult& t) { return t.met; });
}

}  // namespace

Validation compare(const Evaluation& evaluation, const Thresholds& thresholds, const Bootstrap& bootstrap) {
  check(evaluation);
  std::vector<std::string> problems;
  for (const auto& sample : evaluation.samples) problems.push_back(sample.problem);
  const Resampler resampler(problems, bootstrap);
  const Summary summary(evaluation, resampler);

  Validation validation;
  validation.bootstrap = bootstrap;
  validation.n_samples = resampler.n_samples();
  validation.n_problems = resampler.n_problems();
  std::vector<PolicyResult> results;
  for (int p = 0; p < static_cast<int>(evaluation.policies.size()); ++p) {
    const PolicyView view(evaluation, p);
    results.push_back(summary.result(evaluation.policies[p], view));
    results.back().recall = summary.recall(view);
    if (p > 0) results[p].vs_delta = summary.difference(results[p], results[0]);
  }
  // Without active steps in enough problems there is no interval, however many problems there are.
  const PolicyResult& tested = results[0];
  validation.no_interval_reason = no_interval_reason(tested.active.n_problems);
  judge(validation, tested, thresholds);
  if (evaluation.with_full) {
    PolicyResult full = summary.result("full", PolicyView(evaluation, -1));
    full.vs_delta = summary.difference(full, tested);
    results.insert(results.begin(), std::move(full));
  }
  validation.policies = std::move(results);
  return validation;
}

}  // namespace deltacal::calib
