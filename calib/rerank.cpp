#include "calib/rerank.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/error.h"

namespace deltacal::calib {
namespace {

void check(std::span<const config::Schedule> candidates, const RerankOptions& options) {
  if (candidates.empty()) throw bad_input("re-ranking: no candidates");
  if (options.problems.empty()) throw bad_input("re-ranking: no development sample");
  if (options.first_samples < 1 || options.max_rounds < 0 || options.max_neighbours < 1)
    throw bad_input("re-ranking: {} first samples, {} rounds, {} neighbours; at least 1, 0 and 1 are needed",
                    options.first_samples, options.max_rounds, options.max_neighbours);
  if (options.max_rounds > 0 && !options.rules.attended)
    throw bad_input("re-ranking: the local search needs the cost of a schedule");
}

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// A schedule with the gaps of the samples that it has seen.
struct Seen {
  std::string change;
  config::Schedule schedule;
  std::vector<double> gaps;
};

// Runs schedules, keeps count and writes the log.
class Runs {
 public:
  Runs(const EvaluateSamples& evaluate, Reranked& log) : evaluate_(evaluate), log_(log) {}

  // Brings all of them to `n_samples` seen (they have seen equally many); a round of the log, best first or
  // in order.
  RerankRound& advance(std::vector<Seen>& all, int n_samples, const char* stage) {
    const auto start = std::chrono::steady_clock::now();
    const int first = static_cast<int>(all[0].gaps.size()), n = n_samples - first;
    std::vector<config::Schedule> schedules;
    for (const Seen& seen : all) schedules.push_back(seen.schedule);
    const auto gaps = evaluate_(schedules, first, n);
    if (gaps.size() != all.size())
      throw bad_input("re-ranking: NLL gaps of {} schedules, expected {}", gaps.size(), all.size());
    for (std::size_t i = 0; i < all.size(); ++i) append(all[i], gaps[i], n);
    log_.n_evaluated += n * static_cast<int>(all.size());
    log_.rounds.push_back({stage, n_samples, 0, {}});
    RerankRound& round = log_.rounds.back();
    round.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    log_.seconds += round.seconds;
    return round;
  }

 private:
  static void append(Seen& seen, const std::vector<double>& gaps, int n) {
    if (std::ssize(gaps) != n)
      throw bad_input("re-ranking: {} gaps of \"{}\", expected {}", gaps.size(),
                      config::describe(seen.schedule), n);
    for (const double gap : gaps)
      if (!std::isfinite(gap))
        throw bad_input("re-ranking: an NLL gap of \"{}\" is {}", config::describe(seen.schedule), gap);
    seen.gaps.insert(seen.gaps.end(), gaps.begin(), gaps.end());
  }
  const EvaluateSamples& evaluate_;
  Reranked& log_;
};

// The candidate that is left when all samples are seen.
Seen halve(std::span<const config::Schedule> candidates, const RerankOptions& options, Runs& runs) {
  const int n_samples = static_cast<int>(options.problems.size());
  std::vector<Seen> alive;
  for (std::size_t i = 0; i < candidates.size(); ++i)
    alive.push_back({fmt::format("candidate {}", i), candidates[i], {}});
  for (int n = std::min(options.first_samples, n_samples);; n = std::min(2 * n, n_samples)) {
    if (alive.size() == 1) n = n_samples;  // nothing to choose from
    RerankRound& round = runs.advance(alive, n, "halving");
    std::ranges::stable_sort(alive, {}, [](const Seen& seen) { return mean_of(seen.gaps); });
    const std::size_t keep = n == n_samples ? 1 : (alive.size() + 1) / 2;
    for (std::size_t i = 0; i < alive.size(); ++i)
      round.tries.push_back({alive[i].change, alive[i].schedule, mean_of(alive[i].gaps), {}, i < keep});
    alive.resize(keep);
    if (n == n_samples) return alive[0];
  }
}

// Of the neighbours that were not tried before, those worth a run.
std::vector<Seen> worth_trying(const Seen& current, const RerankOptions& options,
                               std::vector<config::Schedule>& tried) {
  auto neighbours = neighbours_of(current.schedule, options.rules);
  std::erase_if(neighbours,
                [&](const Neighbour& n) { return std::ranges::find(tried, n.schedule) != tried.end(); });
  if (options.predicted) {
    std::vector<std::pair<double, std::size_t>> order;
    for (std::size_t i = 0; i < neighbours.size(); ++i) {
      const double loss = options.predicted(neighbours[i].schedule);
      order.emplace_back(std::isnan(loss) ? std::numeric_limits<double>::infinity() : loss, i);
    }
    std::ranges::sort(order);
    std::vector<Neighbour> sorted;
    for (const auto& [loss, i] : order) sorted.push_back(std::move(neighbours[i]));
    neighbours = std::move(sorted);
  }
  std::vector<Seen> chosen;
  for (auto& neighbour : neighbours) {
    if (std::ssize(chosen) == options.max_neighbours) break;
    tried.push_back(neighbour.schedule);
    chosen.push_back({std::move(neighbour.change), std::move(neighbour.schedule), {}});
  }
  return chosen;
}

std::string not_certain(const Estimate& improvement) {
  return fmt::format("the best neighbour is better by {:.3g} nats a token ({:.3g} to {:.3g}): not certain",
                     improvement.mean, *improvement.low, *improvement.high);
}

// Better neighbours as long as one is certain to be better; says why it stopped.
std::string improve(Seen& current, const RerankOptions& options, Runs& runs) {
  if (options.max_rounds == 0) return options.halving_alone;
  const Resampler resampler(options.problems, options.bootstrap);
  if (resampler.n_problems() < min_problems)
    return "no improvement can be certain: " + no_interval_reason(resampler.n_problems());
  std::vector<config::Schedule> tried{current.schedule};
  for (int i = 0; i < options.max_rounds; ++i) {
    auto neighbours = worth_trying(current, options, tried);
    if (neighbours.empty()) return "no neighbour within the budget is left";
    RerankRound& round = runs.advance(neighbours, static_cast<int>(options.problems.size()), "local search");
    for (const Seen& neighbour : neighbours) {
      std::vector<double> better;
      for (std::size_t s = 0; s < current.gaps.size(); ++s)
        better.push_back(current.gaps[s] - neighbour.gaps[s]);
      round.tries.push_back(
          {neighbour.change, neighbour.schedule, mean_of(neighbour.gaps), resampler.estimate(better), false});
    }
    const auto best = std::ranges::min_element(round.tries, {}, &RerankTry::nll_gap);
    if (*best->improvement.low <= 0) return not_certain(best->improvement);
    best->kept = true;
    current = std::move(neighbours[best - round.tries.begin()]);
  }
  return fmt::format("the limit of {} rounds", options.max_rounds);
}

}  // namespace

Reranked rerank(std::span<const config::Schedule> candidates, const EvaluateSamples& evaluate,
                const RerankOptions& options) {
  check(candidates, options);
  Reranked out;
  Runs runs(evaluate, out);
  Seen current = halve(candidates, options, runs);
  out.candidate = static_cast<int>(std::ranges::find(candidates, current.schedule) - candidates.begin());
  out.stopped = improve(current, options, runs);
  out.schedule = std::move(current.schedule);
  out.nll_gap = std::move(current.gaps);
  return out;
}

}  // namespace deltacal::calib
