#include "calib/head_weights.h"

#include <omp.h>

#include <algorithm>
#include <cassert>
#include <limits>
#include <map>
#include <numeric>

#include "core/pages.h"

namespace deltacal::calib {
namespace {

// Where the rows of each step begin.
struct Rows {
  std::vector<size_t> pages;  // [A] pages of the steps before
  explicit Rows(const HeadCells& s) {
    size_t sum = 0;
    for (const int32_t step : s.steps) pages.push_back(sum), sum += size_t(pages_seen(step));
  }
};

// One thread's memory.
struct Scratch {
  explicit Scratch(const HeadTask& task) : order(task.position_bias), chosen(2 * size_t(task.n_heads)) {}
  PageOrder order;
  std::vector<float> rest, score;  // [16 U] largest w alpha of the other heads; [U]
  std::vector<int32_t> pages;      // the list
  std::vector<double> chosen;      // [2, H] sums of cells over the pages of the list
};

// rest[i] = largest w[h] alpha[h,i] over the heads but `head`; alpha [H, n], n whole pages.
void largest_of_others(const float* alpha, size_t n, std::span<const float> weights, size_t head,
                       std::vector<float>& rest) {
  rest.assign(n, 0.0f);
  for (size_t h = 0; h < weights.size(); ++h) {
    if (h == head || weights[h] == 0) continue;
    const float w = weights[h], *a = alpha + h * n;
    for (size_t page = 0; page < n; page += page_size)  // blocks of a known length become vectors
      for (size_t i = page; i < page + page_size; ++i) rest[i] = std::max(rest[i], w * a[i]);
  }
}

// score[u] = scale agg over i in u of max(rest[i], w alpha[i]). Four partial sums, as they fit a vector.
void score_pages(const float* alpha, const std::vector<float>& rest, float w, float scale,
                 config::Score::Page page, std::vector<float>& score) {
  constexpr size_t lanes = 4;
  for (size_t u = 0; u < score.size(); ++u) {
    const float *a = alpha + u * page_size, *r = rest.data() + u * page_size;
    float part[lanes] = {0, 0, 0, 0};
    for (size_t i = 0; i < page_size; i += lanes)
      for (size_t j = 0; j < lanes; ++j) {
        const float top = std::max(r[i + j], w * a[i + j]);
        part[j] = page == config::Score::Page::sum ? part[j] + top : std::max(part[j], top);
      }
    score[u] = scale * (page == config::Score::Page::sum
                            ? (part[0] + part[1]) + (part[2] + part[3])
                            : std::max(std::max(part[0], part[1]), std::max(part[2], part[3])));
  }
}

// 1/2 delta^2 of one layer that reads the first k pages of the list; cells [U, 2, H], whole [H].
double loss_of_list(const float* cells, const float* whole, std::span<const int32_t> pages,
                    Scratch& scratch) {
  std::vector<double>& chosen = scratch.chosen;
  const size_t width = chosen.size(), heads = width / 2;
  std::fill(chosen.begin(), chosen.end(), 0.0);
  for (const int32_t page : pages) {
    const float* cell = cells + size_t(page) * width;
    for (size_t i = 0; i < width; ++i) chosen[i] += double(cell[i]);
  }
  double delta = 0;
  for (size_t h = 0; h < heads; ++h)
    delta += chosen[h] > 0 ? chosen[heads + h] / chosen[h] : -double(whole[h]);
  return 0.5 * delta * delta;
}

// The loss of one step for each value that the weight of `head` may take; infinite where all weights are 0.
void step_losses(const HeadTask& task, const HeadCells& sample, size_t step, size_t first_page,
                 std::span<const float> weights, size_t head, std::span<const float> values, Scratch& scratch,
                 double* out) {
  const size_t heads = weights.size();
  const int seen = pages_seen(sample.steps[step]);
  const size_t n = size_t(seen) * page_size;
  const float* alpha = sample.alpha.data() + first_page * page_size * heads;
  largest_of_others(alpha, n, weights, head, scratch.rest);
  float others = 0;
  for (size_t h = 0; h < heads; ++h)
    if (h != head) others = std::max(others, weights[h]);
  int longest = task.l_pages;
  for (const auto& served : sample.served) longest = std::max(longest, served.k_pages);
  scratch.score.resize(size_t(seen));
  for (size_t v = 0; v < values.size(); ++v) {
    const float top = std::max(others, values[v]);
    if (top == 0) {
      out[v] = std::numeric_limits<double>::infinity();
      continue;
    }
    score_pages(alpha + head * n, scratch.rest, values[v], 1 / top, task.page, scratch.score);
    scratch.order.rank(scratch.score, longest);
    scratch.order.list(longest, task.l_pages, scratch.pages);
    out[v] = 0;
    for (const auto& served : sample.served)
      if (served.k_pages < seen)
        out[v] +=
            loss_of_list(served.cells.data() + first_page * 2 * heads, served.whole.data() + step * heads,
                         std::span(scratch.pages).first(size_t(served.k_pages)), scratch);
  }
}

// F over some samples for each value of one head's weight. Steps are spread over the threads, sums are in
// their order: the same result for any number of threads.
class Line {
 public:
  Line(const HeadTask& task, std::span<const int> samples) : task_(task) {
    for (const int s : samples) {
      const Rows rows(task.samples[size_t(s)]);
      for (size_t step = 0; step < rows.pages.size(); ++step) items_.push_back({s, step, rows.pages[step]});
    }
    for (int i = 0; i < omp_get_max_threads(); ++i) scratch_.emplace_back(task);
    n_samples_ = double(samples.size());
  }

  std::vector<double> losses(std::span<const float> weights, size_t head, std::span<const float> values) {
    const size_t n = values.size();
    of_step_.resize(items_.size() * n);
#pragma omp parallel for schedule(dynamic, 4)
    for (size_t i = 0; i < items_.size(); ++i) {
      const Item& item = items_[i];
      step_losses(task_, task_.samples[size_t(item.sample)], item.step, item.first_page, weights, head,
                  values, scratch_[size_t(omp_get_thread_num())], &of_step_[i * n]);
    }
    std::vector<double> sums(n, 0.0);
    for (size_t i = 0; i < items_.size(); ++i)
      for (size_t v = 0; v < n; ++v)
        sums[v] += of_step_[i * n + v] / (n_samples_ * task_.samples[size_t(items_[i].sample)].n_steps);
    return sums;
  }

 private:
  struct Item {
    int sample;
    size_t step, first_page;
  };
  const HeadTask& task_;
  std::vector<Item> items_;
  std::vector<Scratch> scratch_;
  std::vector<double> of_step_;  // [n_items, n_values]
  double n_samples_ = 0;
};

template <class T>
void shuffle(std::vector<T>& values, SplitMix64& random) {
  for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[size_t(random.below(int(i)))]);
}

// [n_samples] fold of each; problems are dealt out in a seeded order.
std::vector<int> folds_of(const HeadTask& task, int n_folds, uint64_t seed) {
  std::map<std::string, int> fold;
  std::vector<std::string> problems;
  for (const auto& s : task.samples)
    if (fold.emplace(s.problem, 0).second) problems.push_back(s.problem);
  std::sort(problems.begin(), problems.end());
  SplitMix64 random(seed);
  shuffle(problems, random);
  for (size_t i = 0; i < problems.size(); ++i) fold[problems[i]] = int(i) % n_folds;
  std::vector<int> of_sample;
  for (const auto& s : task.samples) of_sample.push_back(fold[s.problem]);
  return of_sample;
}

int n_problems(const HeadTask& task) {
  std::vector<std::string> problems;
  for (const auto& s : task.samples) problems.push_back(s.problem);
  std::sort(problems.begin(), problems.end());
  return int(std::unique(problems.begin(), problems.end()) - problems.begin());
}

// 0: there is nothing to leave out.
int n_folds(const HeadTask& task, const HeadSearch& search) {
  const int n = std::min(search.folds, n_problems(task));
  return n < 2 ? 0 : n;
}

std::string reason_against(const HeadChoice& choice, int problems) {
  if (choice.kept) return "";
  if (std::all_of(choice.fit.weights.begin(), choice.fit.weights.end(), [](float w) { return w == 1; }))
    return "no weights are better than all 1";
  const std::string too_few = no_interval_reason(problems);
  return too_few.empty() ? "the interval of the gain on problems left out does not lie above 0" : too_few;
}

}  // namespace

double head_loss(const HeadTask& task, int sample, std::span<const float> weights) {
  assert(std::ssize(weights) == task.n_heads);
  return Line(task, {&sample, 1}).losses(weights, 0, weights.first(1))[0];
}

HeadFit fit_head_weights(const HeadTask& task, std::span<const int> samples, const HeadSearch& search) {
  assert(!samples.empty() && !search.factors.empty());
  Line line(task, samples);
  const size_t heads = size_t(task.n_heads);
  HeadFit fit;
  fit.weights.assign(heads, 1.0f);
  fit.before = fit.loss = line.losses(fit.weights, 0, std::span(fit.weights).first(1))[0];
  SplitMix64 random(search.seed);
  std::vector<size_t> order(heads);
  std::iota(order.begin(), order.end(), size_t(0));
  while (fit.sweeps < search.max_sweeps) {
    const double begun = fit.loss;
    shuffle(order, random);
    for (const size_t h : order) {
      const auto losses = line.losses(fit.weights, h, search.factors);
      const auto best = std::min_element(losses.begin(), losses.end());
      if (*best >= fit.loss) continue;
      fit.loss = *best;
      fit.weights[h] = search.factors[size_t(best - losses.begin())];
    }
    ++fit.sweeps;
    if (begun - fit.loss <= search.least_gain * begun) break;
  }
  const float top = *std::max_element(fit.weights.begin(), fit.weights.end());
  for (float& w : fit.weights) w /= top;
  return fit;
}

int n_fits(const HeadTask& task, const HeadSearch& search) {
  return 1 + n_folds(task, search);
}

HeadChoice choose_head_weights(const HeadTask& task, const HeadSearch& search, const Bootstrap& bootstrap,
                               const std::function<void()>& after_fit) {
  HeadChoice choice;
  choice.layer = task.layer;
  for (const auto& served : task.samples.front().served) choice.served.push_back(served.layer);
  const int n = int(task.samples.size()), n_parts = n_folds(task, search);
  std::vector<int> all(static_cast<size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  choice.fit = fit_head_weights(task, all, search);
  if (after_fit) after_fit();

  const std::vector<float> ones(size_t(task.n_heads), 1.0f);
  for (const int s : all) choice.before.push_back(head_loss(task, s, ones));
  choice.held_out.assign(size_t(n), std::numeric_limits<double>::quiet_NaN());
  choice.fold = n_parts > 0 ? folds_of(task, n_parts, search.seed) : std::vector<int>(size_t(n), 0);
  for (int part = 0; part < n_parts; ++part) {
    std::vector<int> others;
    std::copy_if(all.begin(), all.end(), std::back_inserter(others),
                 [&](int s) { return choice.fold[size_t(s)] != part; });
    choice.fold_weights.push_back(fit_head_weights(task, others, search).weights);
    for (const int s : all)
      if (choice.fold[size_t(s)] == part)
        choice.held_out[size_t(s)] = head_loss(task, s, choice.fold_weights.back());
    if (after_fit) after_fit();
  }

  std::vector<double> gain;
  std::vector<std::string> problems;
  for (const int s : all) {
    gain.push_back(choice.before[size_t(s)] - choice.held_out[size_t(s)]);
    problems.push_back(task.samples[size_t(s)].problem);
  }
  choice.gain = mean_with_interval(gain, problems, bootstrap);
  choice.kept = choice.gain.low && *choice.gain.low > 0;
  choice.reason = reason_against(choice, n_problems(task));
  return choice;
}

}  // namespace deltacal::calib
