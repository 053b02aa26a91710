// Weights per query head against brute force, on small random cases.
#include "calib/head_weights.h"

#include <omp.h>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <map>
#include <random>
#include <set>

#include "core/pages.h"
#include "support_maps.h"

namespace deltacal::calib {
namespace {

using Page = config::Score::Page;
using Weights = std::vector<float>;

const std::vector<float> grid = HeadSearch{}.factors;

struct Shape {
  int n_heads = 2, n_samples = 1, n_problems = 1;
  std::vector<int32_t> steps{70, 95, 121};
  std::vector<int> k_pages{3, 4};  // of the served layers
};

// Attention of the Δ-layer and cells of the served layers, all random and independent.
HeadTask random_task(uint32_t seed, const Shape& shape) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  const size_t H = size_t(shape.n_heads);
  HeadTask task{5, shape.n_heads, 1, Page::sum, default_position_bias, {}};
  for (int s = 0; s < shape.n_samples; ++s) {
    HeadCells cells;
    cells.id = "s" + std::to_string(s);
    cells.problem = "p" + std::to_string(s % shape.n_problems);
    cells.layer = 5;
    cells.n_heads = shape.n_heads;
    cells.n_steps = int(shape.steps.size()) + 1;  // one more, at which nothing is left out
    cells.steps = shape.steps;
    for (const int k : shape.k_pages) cells.served.push_back({6 + int(cells.served.size()), k, {}, {}});
    for (const int32_t step : shape.steps) {
      const int n = step + 1, U = pages_seen(step);
      for (size_t h = 0; h < H; ++h) {
        std::vector<double> e(size_t(n), 0.0);
        double sum = 0;
        for (double& x : e) sum += x = std::exp(2.5 * normal(random));
        for (int i = 0; i < U * page_size; ++i)
          cells.alpha.push_back(i < n ? float(e[size_t(i)] / sum) : 0.0f);
      }
      for (auto& served : cells.served) {
        std::vector<double> m(size_t(U) * H), c(size_t(U) * H);
        for (size_t h = 0; h < H; ++h) {
          double mass = 0, middle = 0;
          for (size_t u = 0; u < size_t(U); ++u) {
            mass += m[u * H + h] = std::exp(normal(random));
            middle += (c[u * H + h] = 0.1 * normal(random)) / U;
          }
          for (size_t u = 0; u < size_t(U); ++u) m[u * H + h] /= mass, c[u * H + h] -= middle;
        }
        for (size_t u = 0; u < size_t(U); ++u) {
          for (size_t h = 0; h < H; ++h) served.cells.push_back(float(m[u * H + h]));
          for (size_t h = 0; h < H; ++h) served.cells.push_back(float(c[u * H + h]));
        }
        for (size_t h = 0; h < H; ++h) served.whole.push_back(float(normal(random)));
      }
    }
    task.samples.push_back(std::move(cells));
  }
  return task;
}

// The definition, from masses m and values m' = c + (g.o) m, the weights as they are.
double direct_loss(const HeadTask& task, int sample, const Weights& weights) {
  const HeadCells& s = task.samples[size_t(sample)];
  const size_t H = weights.size();
  double loss = 0;
  size_t page = 0;  // pages of the steps before
  for (size_t step = 0; step < s.steps.size(); ++step) {
    const size_t U = size_t(pages_seen(s.steps[step]));
    std::vector<float> score;
    for (size_t u = 0; u < U; ++u) {
      double sum = 0, largest = 0;
      for (size_t i = 0; i < page_size; ++i) {
        double top = 0;
        for (size_t h = 0; h < H; ++h)
          top =
              std::max(top, double(weights[h]) * s.alpha[page * page_size * H + (h * U + u) * page_size + i]);
        sum += top;
        largest = std::max(largest, top);
      }
      score.push_back(float(task.page == Page::sum ? sum : largest));
    }
    for (const auto& served : s.served) {
      if (served.k_pages >= int(U)) continue;
      double delta = 0;
      const auto chosen = test::select(score, served.k_pages, task.l_pages);
      for (size_t h = 0; h < H; ++h) {
        double mass = 0, value = 0;
        const double whole = served.whole[step * H + h];
        for (const int32_t u : chosen) {
          const float* cell = &served.cells[(page + size_t(u)) * 2 * H];
          mass += cell[h];
          value += cell[H + h] + whole * cell[h];
        }
        delta += value / mass - whole;
      }
      loss += 0.5 * delta * delta / s.n_steps;
    }
    page += U;
  }
  return loss;
}

double mean_loss(const HeadTask& task, const Weights& weights) {
  double sum = 0;
  for (size_t s = 0; s < task.samples.size(); ++s) sum += direct_loss(task, int(s), weights);
  return sum / double(task.samples.size());
}

// All vectors of the grid but 0.
std::vector<Weights> all_weights(int n_heads) {
  std::vector<Weights> out{{}};
  for (int h = 0; h < n_heads; ++h) {
    std::vector<Weights> longer;
    for (const Weights& w : out)
      for (const float f : grid) longer.push_back(w), longer.back().push_back(f);
    out = std::move(longer);
  }
  std::erase_if(out, [](const Weights& w) { return *std::max_element(w.begin(), w.end()) == 0; });
  return out;
}

Weights normalised(Weights w) {
  const float top = *std::max_element(w.begin(), w.end());
  for (float& x : w) x /= top;
  return w;
}

std::vector<int> all_of(const HeadTask& task) {
  std::vector<int> all;
  for (size_t s = 0; s < task.samples.size(); ++s) all.push_back(int(s));
  return all;
}

// No single weight of w, taken as a vector of the grid, can be changed for a smaller loss.
bool cannot_be_improved(const HeadTask& task, const Weights& w, double loss) {
  for (size_t h = 0; h < w.size(); ++h)
    for (const float f : grid) {
      Weights other = w;
      other[h] = f;
      if (*std::max_element(other.begin(), other.end()) == 0) continue;
      if (mean_loss(task, normalised(other)) < loss * (1 - 1e-6)) return false;
    }
  return true;
}

// Page 0 is what the served layer needs at every step, head 0 says so faintly; head 1 looks hard at other
// pages, which are worth nothing.
HeadTask task_with_a_noisy_head(int n_samples, int n_problems) {
  HeadTask task = random_task(11, {2, n_samples, n_problems, {79, 95, 127}, {2}});
  for (HeadCells& s : task.samples) {
    size_t page = 0;
    std::fill(s.alpha.begin(), s.alpha.end(), 0.0f);
    for (size_t step = 0; step < s.steps.size(); ++step) {
      const size_t U = size_t(pages_seen(s.steps[step])), noisy = 1 + step;
      s.alpha[page * page_size * 2 + 3] = 0.1f;
      s.alpha[page * page_size * 2 + (U + noisy) * page_size + 5] = 0.9f;
      for (size_t u = 0; u < U; ++u)
        for (size_t h = 0; h < 2; ++h) {
          s.served[0].cells[(page + u) * 4 + h] = u == 0 ? 0.98f : 0.02f / float(U - 1);
          s.served[0].cells[(page + u) * 4 + 2 + h] = 0.0f;
        }
      s.served[0].cells[page * 4 + 2] = 0.5f;
      s.served[0].cells[(page + U - 1) * 4 + 2] = -0.5f;  // the newest page is in every list
      page += U;
    }
  }
  return task;
}

TEST_CASE(
    "head weights: the loss equals the definition, for the sum and the largest, and only ratios matter") {
  for (uint32_t seed = 0; seed < 12; ++seed)
    for (const Page page : {Page::sum, Page::max}) {
      HeadTask task = random_task(seed, {3, 2, 2});
      task.page = page;
      for (const Weights& w : {Weights{1, 1, 1}, {1, 0.25f, 0}, {0, 0, 1}, {0.5f, 1, 0.0625f}})
        for (const int s : {0, 1}) {
          const double expected = direct_loss(task, s, w);
          CHECK(head_loss(task, s, w) == Catch::Approx(expected).epsilon(1e-5));
          CHECK(head_loss(task, s, Weights{4 * w[0], 4 * w[1], 4 * w[2]}) == head_loss(task, s, w));
        }
    }
}

TEST_CASE(
    "head weights: the search ends where no weight can be changed, and never below the least of all "
    "vectors") {
  int found_least = 0, n_cases = 0;
  for (const int n_heads : {2, 3})
    for (uint32_t seed = 0; seed < 8; ++seed, ++n_cases) {
      const HeadTask task = random_task(100 + seed, {n_heads, 2, 2});
      double least = mean_loss(task, Weights(size_t(n_heads), 1));
      const double ones = least;
      for (const Weights& w : all_weights(n_heads)) least = std::min(least, mean_loss(task, normalised(w)));
      HeadSearch search;
      search.least_gain = 0;
      search.max_sweeps = 50;
      const HeadFit fit = fit_head_weights(task, all_of(task), search);
      CAPTURE(n_heads, seed, ones, least, fit.loss);
      CHECK(fit.before == Catch::Approx(ones).epsilon(1e-5));
      CHECK(fit.loss == Catch::Approx(mean_loss(task, fit.weights)).epsilon(1e-5));
      CHECK(fit.loss <= fit.before);
      CHECK(fit.loss >= least * (1 - 1e-5));
      CHECK(*std::max_element(fit.weights.begin(), fit.weights.end()) == 1);
      bool at_rest = false;  // for one of the vectors of the grid with these ratios
      for (const float scale : grid) {
        Weights w = fit.weights;
        for (float& x : w) x *= scale;
        if (scale > 0 &&
            std::ranges::all_of(w, [](float x) { return std::ranges::find(grid, x) != grid.end(); }))
          at_rest |= cannot_be_improved(task, w, fit.loss);
      }
      CHECK(at_rest);
      found_least += fit.loss <= least * (1 + 1e-5);
    }
  CHECK(found_least > n_cases / 2);
}

TEST_CASE("head weights: a head that is noise gets less weight, and the gain holds on problems left out") {
  const HeadTask task = task_with_a_noisy_head(8, 8);
  const HeadChoice choice = choose_head_weights(task, {}, {200, 1, 0.95});
  CHECK(choice.fit.before > 0.01);
  CHECK(choice.fit.loss < 1e-6 * choice.fit.before);
  CHECK(choice.fit.weights ==
        Weights{1, 0});  // 0.9 w1 > 0.1 w0 at every ratio above 0 that one change reaches
  CHECK(choice.kept);
  CHECK(choice.reason.empty());
  CHECK(choice.gain.mean == Catch::Approx(choice.fit.before).epsilon(1e-4));
}

TEST_CASE(
    "head weights: what is fitted to noise gains on its own samples, not on those left out, and is not "
    "kept") {
  double own = 0, held_out = 0;
  int kept = 0;
  constexpr int n_cases = 12;
  for (uint32_t seed = 0; seed < n_cases; ++seed) {
    const HeadTask task = random_task(400 + seed, {4, 12, 12});
    const HeadChoice choice = choose_head_weights(task, {}, {500, 1, 0.95});
    own += (1 - choice.fit.loss / choice.fit.before) / n_cases;
    held_out += choice.gain.mean / choice.fit.before / n_cases;
    kept += choice.kept;
    if (!choice.kept) CHECK(choice.reason.find("does not lie above 0") != std::string::npos);
  }
  CAPTURE(own, held_out, kept);
  CHECK(own > 0.2);
  CHECK(held_out < own / 4);
  CHECK(kept <= 3);
}

TEST_CASE(
    "head weights: folds hold whole problems, and a sample's figure is that of weights fitted without its "
    "fold") {
  const HeadTask task = random_task(7, {3, 12, 6});
  HeadSearch search;
  search.folds = 3;
  int fits = 0;
  const HeadChoice choice = choose_head_weights(task, search, {200, 1, 0.95}, [&] { ++fits; });
  CHECK(fits == n_fits(task, search));
  REQUIRE(choice.fold_weights.size() == 3);
  std::map<std::string, std::set<int>> folds;
  for (size_t s = 0; s < 12; ++s) {
    folds[task.samples[s].problem].insert(choice.fold[s]);
    std::vector<int> others;
    for (int o = 0; o < 12; ++o)
      if (choice.fold[size_t(o)] != choice.fold[s]) others.push_back(o);
    CHECK(others.size() == 8);
    const Weights fitted = fit_head_weights(task, others, search).weights;
    CHECK(fitted == choice.fold_weights[size_t(choice.fold[s])]);
    CHECK(choice.held_out[s] == head_loss(task, int(s), fitted));
    CHECK(choice.before[s] == head_loss(task, int(s), Weights(3, 1)));
  }
  CHECK(folds.size() == 6);
  for (const auto& [problem, in] : folds) CHECK(in.size() == 1);
}

TEST_CASE("head weights: fewer than 4 problems, or one, give weights that are not kept, and the reason") {
  for (const int problems : {1, 3}) {
    const HeadChoice choice = choose_head_weights(task_with_a_noisy_head(6, problems), {}, {200, 1, 0.95});
    CHECK(choice.fit.weights == Weights{1, 0});
    CHECK(!choice.kept);
    CHECK(choice.reason == no_interval_reason(problems));
    CHECK(std::isnan(choice.gain.mean) == (problems == 1));
  }
}

TEST_CASE("head weights: the same for any number of threads") {
  const HeadTask task = random_task(9, {4, 3, 3});
  const int before = omp_get_max_threads();
  omp_set_num_threads(1);
  const HeadFit one = fit_head_weights(task, all_of(task), {});
  omp_set_num_threads(3);
  const HeadFit three = fit_head_weights(task, all_of(task), {});
  omp_set_num_threads(before);
  CHECK(one.weights == three.weights);
  CHECK(one.loss == three.loss);
}

}  // namespace
}  // namespace deltacal::calib
