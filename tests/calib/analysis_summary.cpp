#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include "calib/analysis.h"
#include "core/hash.h"
#include "support/scratch.h"
#include "support_maps.h"

namespace deltacal::calib {
namespace {

using test::missing;
using test::same;

const Grid small_grid{{2, 4, 8}, {1, 3}};

// Six samples of five problems; the last is too short for K = 8, the first two alone have group mass.
struct Samples {
  std::vector<test::OwnedMaps> maps;
  std::vector<std::string> problems{"a", "b", "c", "d", "d", "e"};
  std::vector<SampleAnalysis> analysed;
  RecallHistogram histogram{5, 3};

  Samples() {
    for (int i = 0; i < 6; ++i)
      maps.push_back(test::random_maps(100 + i, 3, test::run_of_steps(i < 5 ? 120 + 3 * i : 70, 10 + i),
                                       std::vector<int32_t>(10 + i, 0), i < 2 ? 2 : 0));
    for (int i = 0; i < 6; ++i) {
      SampleSums sums(small_grid, 3);
      sums.add(maps[i].view(), histogram);
      analysed.push_back(sums.finish("sample", problems[i]));
    }
  }
  Analysis summary(const Bootstrap& bootstrap = {500, 1, 0.95}) const {
    return summarise(analysed, histogram, small_grid, bootstrap);
  }
};

std::vector<double> active_recalls(const StepMaps& maps, int target, int source, const Budget& b) {
  std::vector<double> out;
  for (int s = 0; s < maps.n_steps; ++s)
    if (maps.seen(s) > b.k_pages)
      out.push_back(test::mass_on(maps.mass_of(target, s),
                                  test::select(maps.score_of(source, s), b.k_pages, b.l_pages)));
  return out;
}

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

TEST_CASE("analysis: recall is the mean over steps, then over the samples that have active ones") {
  const Samples samples;
  const Analysis found = samples.summary();
  REQUIRE(found.recall.size() == 5);
  for (const RecallAnalysis& table : found.recall)
    for (int target = 0; target < 3; ++target)
      for (int source = 0; source <= target; ++source) {
        std::vector<double> means, all;
        for (const test::OwnedMaps& maps : samples.maps) {
          const auto values = active_recalls(maps.view(), target, source, table.budget);
          if (values.empty()) continue;
          means.push_back(mean_of(values));
          all.insert(all.end(), values.begin(), values.end());
        }
        std::sort(all.begin(), all.end());
        REQUIRE(same(table.recall.mean(target, source), mean_of(means)));
        REQUIRE(same(table.worst_step(target, source), all.front()));
        const double place = 0.05 * static_cast<double>(all.size() - 1);
        REQUIRE(table.p05(target, source) >= all[static_cast<std::size_t>(place)] - 1e-3);
        REQUIRE(table.p05(target, source) <= all[static_cast<std::size_t>(place) + 1] + 1e-3);
        REQUIRE(table.n_samples == std::ssize(means));
        REQUIRE(table.n_steps == std::ssize(all));
        REQUIRE(table.recall.low(target, source) < table.recall.mean(target, source));
        REQUIRE(table.recall.high(target, source) > table.recall.mean(target, source));
      }
  CHECK(found.recall.back().budget == Budget{8, 3});
  CHECK(found.recall.back().n_samples == 5);
  CHECK(found.recall.back().n_problems == 4);
  CHECK(found.recall.front().n_problems == 5);
  CHECK(found.recall.front().recall.mean.array().isNaN().count() == 3);  // above the diagonal
}

TEST_CASE("analysis: R over O is the ratio of the means, and at most 1") {
  const Analysis found = Samples().summary();
  for (const RecallAnalysis& table : found.recall) {
    const auto oracle = std::ranges::find(found.oracle, table.budget.k_pages, &OracleAnalysis::k_pages);
    for (int target = 0; target < 3; ++target)
      for (int source = 0; source <= target; ++source) {
        CHECK(same(table.over_oracle(target, source),
                   table.recall.mean(target, source) / oracle->recall.mean[target]));
        CHECK(table.over_oracle(target, source) <= 1 + 1e-6);
      }
  }
}

TEST_CASE("analysis: the worst key/value head is that of the samples with group mass") {
  const Samples samples;
  const Analysis found = samples.summary();
  const auto pairs = small_grid.pairs();
  for (std::size_t p = 0; p < pairs.size(); ++p) {
    REQUIRE(found.recall[p].worst_kv_head.has_value());
    double least = 2;
    for (int g = 0; g < 2; ++g) {
      double sum = 0;
      for (int i = 0; i < 2; ++i) {
        const StepMaps maps = samples.maps[i].view();
        sum += test::mean_over_steps(maps, [&](int s) {
          if (maps.seen(s) <= pairs[p].k_pages) return missing;
          return test::mass_on(maps.group_mass_of(2, s, g),
                               test::select(maps.score_of(1, s), pairs[p].k_pages, pairs[p].l_pages));
        });
      }
      least = std::min(least, sum / 2);
    }
    CHECK(same((*found.recall[p].worst_kv_head)(2, 1), least));
  }
  std::vector<SampleAnalysis> without(samples.analysed.begin() + 2, samples.analysed.end());
  CHECK_FALSE(summarise(without, samples.histogram, small_grid, {}).recall[0].worst_kv_head.has_value());
}

TEST_CASE("analysis: intervals are those of the bootstrap over problems of the samples' own means") {
  const Samples samples;
  const Bootstrap bootstrap{500, 1, 0.95};
  const Analysis found = samples.summary(bootstrap);
  const auto check_row = [&](const RowEstimate& row, int layer, auto value) {
    std::vector<double> values;
    for (const SampleAnalysis& sample : samples.analysed) values.push_back(value(sample));
    const Estimate expected = mean_with_interval(values, samples.problems, bootstrap);
    CHECK(same(row.mean[layer], expected.mean));
    CHECK(same(row.low[layer], *expected.low));
    CHECK(same(row.high[layer], *expected.high));
  };
  check_row(found.layer_drift, 1, [](const SampleAnalysis& s) { return s.drift.layer[1]; });
  check_row(found.step_drift, 2, [](const SampleAnalysis& s) { return s.drift.step[2]; });
  check_row(found.oracle[1].recall, 2,
            [](const SampleAnalysis& s) { return double(s.recall.oracle[1 * 3 + 2]); });
  const auto stale = std::ranges::find_if(found.stale, [](const StaleAnalysis& s) {
    return s.lag == 4 && s.budget == Budget{4, 3};
  });
  REQUIRE(stale != found.stale.end());
  CHECK(stale->n_samples == 6);
  check_row(stale->recall, 1,
            [](const SampleAnalysis& s) { return double(s.stale.recall[(3 * 5 + 2) * 3 + 1]); });
  CHECK(same(found.correlation.cosine.mean(2, 1), found.correlation.cosine.mean(1, 2)));
  CHECK(found.no_interval_reason.empty());
  CHECK(found.n_problems == 5);
}

TEST_CASE("analysis: with three problems there are figures, no intervals, and the reason") {
  const Samples samples;
  const std::vector<SampleAnalysis> few(samples.analysed.begin(), samples.analysed.begin() + 3);
  const Analysis found = summarise(few, samples.histogram, small_grid, {});
  CHECK(found.no_interval_reason == "fewer than 4 problems: 3");
  CHECK(found.recall[0].recall.mean(2, 1) > 0);
  CHECK(found.recall[0].recall.low.array().isNaN().all());
  CHECK(found.layer_drift.high.array().isNaN().all());
}

TEST_CASE("analysis: the reference pair is K = 32, L = 4, or the nearest of the grid") {
  CHECK(reference_budget(Grid{}) == Budget{32, 4});
  CHECK(reference_budget(small_grid) == Budget{8, 3});
  CHECK(reference_budget(Grid{{16, 48}, {1, 2, 6}}) == Budget{16, 2});
  CHECK(reference_budget(Grid{{2, 4}, {3, 8}}) == Budget{4, 3});
}

// ---- from a file ----

const ModelInfo tiny{"tiny", "llama", std::string(64, 'a'), 3, 4, 2, 8, page_size, 4096, "f32"};

// Writes the maps as a trace; pages the step does not see are 0 there.
void write_trace(const std::string& path, const std::vector<test::OwnedMaps>& all, bool group_mass) {
  trace::Writer writer(path, trace::Writer::Start::fresh, tiny, {"profile", 1}, nlohmann::json::object());
  for (int i = 0; i < std::ssize(all); ++i) {
    const test::OwnedMaps& maps = all[i];
    const int n_tokens = maps.n_pages * page_size;
    trace::SamplePlan plan;
    plan.info.id = "sample " + std::to_string(i);
    plan.info.problem = "problem " + std::to_string(i);
    plan.info.mode = "replay";
    plan.max_tokens = n_tokens;
    plan.max_steps = maps.n_steps();
    plan.group_mass = group_mass;
    auto sample = writer.begin(i, plan);
    const std::size_t row = std::size_t(maps.n_steps()) * maps.n_pages;
    for (int l = 0; l < maps.n_layers; ++l) {
      sample.write_pages(l, 0, maps.n_steps(), maps.n_pages, std::span(maps.score).subspan(l * row, row),
                         std::span(maps.mass).subspan(l * row, row));
      if (group_mass)
        sample.write_group_mass(l, 0, maps.n_steps(), maps.n_pages,
                                std::span(maps.group_mass).subspan(l * row * 2, row * 2));
    }
    std::vector<int32_t> tokens(n_tokens, i);
    std::vector<float> nll(n_tokens - 1, 1.0f);
    sample.finish(tokens, maps.steps, maps.burst, nll);
  }
  writer.finish();
}

TEST_CASE("analysis: of a trace file equals that of the same maps in memory") {
  Samples samples;
  std::vector<test::OwnedMaps> written(samples.maps.begin(), samples.maps.begin() + 2);
  RecallHistogram histogram(5, 3);
  std::vector<SampleAnalysis> in_memory;
  for (test::OwnedMaps& maps : written) {
    for (int l = 0; l < 3; ++l)
      for (int s = 0; s < maps.n_steps(); ++s)
        for (int u = pages_seen(maps.steps[s]); u < maps.n_pages; ++u) {
          maps.score_at(l, s, u) = maps.mass_at(l, s, u) = 0;
          for (int g = 0; g < 2; ++g)
            maps.group_mass[((std::size_t(l) * maps.n_steps() + s) * 2 + g) * maps.n_pages + u] = 0;
        }
    SampleSums sums(small_grid, 3);
    sums.add(maps.view(), histogram);
    in_memory.push_back(sums.finish("sample", "problem " + std::to_string(in_memory.size())));
  }
  const Analysis expected = summarise(in_memory, histogram, small_grid, {});
  deltacal::test::Scratch folder;
  write_trace(folder / "trace.h5", written, true);
  const trace::Reader reader(folder / "trace.h5");
  double steps = 0;
  const Analysis found = analyze(reader, small_grid, {}, [&](double n) { steps += n; });
  CHECK(steps == 21);
  CHECK(found.n_steps == 21);
  CHECK(found.model.name == "tiny");
  CHECK(found.trace_sha256 == sha256_of_file(folder / "trace.h5"));
  for (int p = 0; p < 5; ++p)
    for (int target = 0; target < 3; ++target)
      for (int source = 0; source <= target; ++source) {  // masses are stored in half precision
        const double tolerance = 1e-3;
        CHECK(same(found.recall[p].recall.mean(target, source),
                   expected.recall[p].recall.mean(target, source), tolerance));
        CHECK(same((*found.recall[p].worst_kv_head)(target, source),
                   (*expected.recall[p].worst_kv_head)(target, source), tolerance));
      }
  CHECK(same(found.correlation.pearson.mean(2, 0), expected.correlation.pearson.mean(2, 0), 1e-12));
  CHECK(same(found.step_drift.mean[1], expected.step_drift.mean[1], 1e-12));

  const std::vector<SampleRecall> own = recalls(reader, small_grid);
  REQUIRE(own.size() == 2);
  CHECK(own[1].problem == "problem 1");
  CHECK(same(own[1].mean_lost[own[1].at(2, 2, 1)], in_memory[1].recall.mean_lost[own[1].at(2, 2, 1)], 1e-3));
}

}  // namespace
}  // namespace deltacal::calib
