// `validate`'s figures against plain loops, its intervals, its verdict and its file.
#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validator.hpp>

#include "calib/comparison.h"
#include "calib/validation_json.h"
#include "core/error.h"
#include "core/files.h"

using namespace deltacal;
using namespace deltacal::calib;
using Catch::Approx;
using nlohmann::json;

namespace {

constexpr Bootstrap quick{.resamples = 300};

// Samples of different lengths, two a problem, the first one too short to have active steps.
Evaluation evaluation(int n_problems, unsigned seed = 1, int smallest_k = 8) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(0, 1);
  Evaluation e;
  e.policies = {"delta", "streaming", "delta:other"};
  e.smallest_k = smallest_k;
  e.with_full = true;
  for (int i = 0; i < 2 * n_problems; ++i) {
    EvaluatedSample sample;
    sample.id = "s" + std::to_string(i);
    sample.problem = "p" + std::to_string(i / 2);
    sample.first_step = 20 + i;
    sample.n_tokens = i == 0 ? 100 : 900 + 150 * i;
    const int steps = sample.n_tokens - sample.first_step;
    sample.positions = 4LL * 1000 * (i + 1);
    for (int s = 0; s < steps; ++s) sample.nll_full.push_back(1 + uniform(random));
    sample.nll_full.back() = NAN;
    for (int p = 0; p < 3; ++p) {
      EvaluatedPolicy policy;
      for (int s = 0; s < steps; ++s) {
        policy.nll.push_back(sample.nll_full[s] + 0.1f * (p + 1) * uniform(random));
        policy.kl.push_back(uniform(random) * uniform(random) * (p + 1));
        policy.top1.push_back(uniform(random) < 0.9f);
      }
      policy.attended = 1000LL * (p + 1) * (i + 1);
      policy.recall = {{2, 0.8 + 0.01 * i}, {3, i == 0 ? NAN : 0.9}};
      sample.policies.push_back(policy);
    }
    e.samples.push_back(sample);
  }
  return e;
}

// Mean over samples of the mean over the steps that `holds`, of value(sample, step).
template <class Holds, class Value>
double brute_mean(const Evaluation& e, Holds holds, Value value) {
  double sum = 0;
  int n_samples = 0;
  for (const auto& sample : e.samples) {
    double inner = 0;
    int n = 0;
    for (size_t i = 0; i < sample.nll_full.size(); ++i) {
      const double v = value(sample, i);
      if (holds(sample.first_step + static_cast<int>(i)) && !std::isnan(v)) inner += v, ++n;
    }
    if (n > 0) sum += inner / n, ++n_samples;
  }
  return sum / n_samples;
}

const PolicyResult& named(const Validation& v, const std::string& name) {
  return *std::find_if(v.policies.begin(), v.policies.end(), [&](const auto& p) { return p.name == name; });
}

Validation filled(Validation v) {
  v.model = {"tiny", "llama", std::string(64, 'a'), 4, 9, 3, 64, 16, 8192, "f32"};
  v.config_path = "c.json";
  v.config_sha256 = v.data_sha256 = std::string(64, 'b');
  v.schedule = "full 0-1 · delta 2 · sparse k 8, L 4";
  v.data_path = "d.jsonl";
  v.max_tokens = 2048;
  v.pack = 1500;
  return v;
}

bool accepted(const json& document) {
  static const json source =
      json::parse(read_file(std::string(PROJECT_DATA) + "/schema/validation.schema.json"));
  valijson::Schema schema;
  valijson::SchemaParser parser(valijson::SchemaParser::kDraft7);
  parser.populateSchema(valijson::adapters::NlohmannJsonAdapter(source), schema);
  valijson::Validator validator;
  return validator.validate(schema, valijson::adapters::NlohmannJsonAdapter(document), nullptr);
}

json written(const Validation& v) {
  return json::parse(to_json(filled(v), {"deltacal validate", 3}).dump());
}

}  // namespace

TEST_CASE("comparison: figures of a policy are means over samples of means over their active steps") {
  const auto e = evaluation(5);
  const auto v = compare(e, {}, quick);
  REQUIRE(v.policies.size() == 4);
  CHECK(v.policies[0].name == "full");
  const auto active = [&](int t) { return t / 16 + 1 > 8; };
  const auto any = [](int) { return true; };
  for (int p = 0; p < 3; ++p) {
    const auto& policy = named(v, e.policies[p]);
    const auto nll = [&](const auto& s, size_t i) { return double(s.policies[p].nll[i]); };
    const auto gap = [&](const auto& s, size_t i) { return double(s.policies[p].nll[i]) - s.nll_full[i]; };
    const auto kl = [&](const auto& s, size_t i) { return double(s.policies[p].kl[i]); };
    const auto top1 = [&](const auto& s, size_t i) { return double(s.policies[p].top1[i]); };
    CHECK(std::abs(policy.active.nll - brute_mean(e, active, [&](const auto& s, size_t i) {
                     return std::isnan(s.nll_full[i]) ? NAN : nll(s, i);
                   })) < 1e-9);
    CHECK(std::abs(policy.active.nll_gap.mean - brute_mean(e, active, gap)) < 1e-6);
    CHECK(std::abs(policy.all.nll_gap.mean - brute_mean(e, any, gap)) < 1e-6);
    CHECK(std::abs(policy.active.kl.mean - brute_mean(e, active, kl)) < 1e-9);
    CHECK(std::abs(policy.all.top1 - brute_mean(e, any, top1)) < 1e-9);
    CHECK(policy.samples_without_active == 1);
    CHECK(policy.samples[0].active_steps == 0);
    CHECK(std::isnan(policy.samples[0].active.nll));
    CHECK_FALSE(std::isnan(policy.samples[0].all.nll));
    CHECK(policy.active.n_samples == 9);
    CHECK(policy.active.n_problems == 5);
    CHECK(policy.attended_ratio == Approx(4.0 / (p + 1)));
  }
}

TEST_CASE("comparison: median and 99% quantile of KL are over all steps together") {
  const auto e = evaluation(3);
  const auto v = compare(e, {}, quick);
  std::vector<double> all;
  for (const auto& sample : e.samples)
    for (size_t i = 0; i < sample.nll_full.size(); ++i)
      if ((sample.first_step + int(i)) / 16 + 1 > 8) all.push_back(sample.policies[0].kl[i]);
  std::sort(all.begin(), all.end());
  const auto& delta = named(v, "delta");
  CHECK(delta.active.n_steps == static_cast<int>(all.size()));
  CHECK(std::abs(delta.active.kl_median - all[all.size() / 2]) < 2e-3);
  const double below = std::lower_bound(all.begin(), all.end(), delta.active.kl_p99) - all.begin();
  CHECK(std::abs(below / all.size() - 0.99) < 1e-3);
}

TEST_CASE("comparison: full attention compared with itself is exact") {
  const auto v = compare(evaluation(4), {}, quick);
  const auto& full = named(v, "full");
  CHECK(full.attended_ratio == 1);
  CHECK(full.active.nll_gap.mean == 0);
  CHECK(full.active.nll_gap.low == 0.0);
  CHECK(full.active.nll_gap.high == 0.0);
  CHECK(full.active.kl.mean == 0);
  CHECK(full.active.kl_p99 == 0);
  CHECK(full.active.top1 == 1);
  CHECK(full.recall.empty());
}

TEST_CASE("comparison: bins hold the steps of their positions, active ones and all") {
  const auto e = evaluation(5);
  const auto v = compare(e, {}, quick);
  const auto& delta = named(v, "delta");
  REQUIRE(delta.bins.size() == 3);  // the longest sample has 2250 tokens
  int n_active = 0, n_all = 0;
  for (const auto& bin : delta.bins) {
    n_active += bin.active.n_steps;
    n_all += bin.all.n_steps;
    const auto in = [&](int t) { return t >= bin.from && t < bin.to && t / 16 + 1 > 8; };
    const double kl = brute_mean(e, in, [](const auto& s, size_t i) { return double(s.policies[0].kl[i]); });
    CHECK(std::abs(bin.active.kl.mean - kl) < 1e-9);
  }
  CHECK(n_active == delta.active.n_steps);
  CHECK(n_all == delta.all.n_steps);
  CHECK(delta.bins[1].from == 1024);
  CHECK(delta.bins[1].to == 2048);
  CHECK(delta.bins[1].active.n_steps == delta.bins[1].all.n_steps);
}

TEST_CASE("comparison: policies are compared with the tested one sample by sample") {
  auto e = evaluation(6);
  for (auto& sample :
       e.samples)  // 0.25 worse than delta on every step: the difference is certain, the gap is not
    for (size_t i = 0; i < sample.nll_full.size(); ++i)
      sample.policies[1].nll[i] = sample.policies[0].nll[i] + 0.25f;
  const auto v = compare(e, {}, quick);
  CHECK_FALSE(named(v, "delta").vs_delta);
  const auto& streaming = named(v, "streaming");
  REQUIRE(streaming.vs_delta);
  CHECK(std::abs(streaming.vs_delta->mean - 0.25) < 1e-5);
  REQUIRE(streaming.vs_delta->low);
  CHECK(*streaming.vs_delta->high - *streaming.vs_delta->low < 1e-5);
  CHECK(*streaming.active.nll_gap.high - *streaming.active.nll_gap.low > 1e-4);
  CHECK(named(v, "full").vs_delta->mean == Approx(-named(v, "delta").active.nll_gap.mean));
}

TEST_CASE("comparison: on-policy recall is a mean over the samples that have one") {
  const auto v = compare(evaluation(5), {}, quick);
  const auto& recall = named(v, "delta").recall;
  REQUIRE(recall.size() == 2);
  CHECK(recall[0].first == 2);
  CHECK(recall[0].second.mean == Approx(0.845));
  CHECK(recall[1].second.mean == Approx(0.9));
  CHECK(recall[1].second.n_samples == 9);
}

TEST_CASE("comparison: the verdict holds the upper bound of the gap against its limit") {
  const auto e = evaluation(6);
  const auto gap = named(compare(e, {}, quick), "delta").active.nll_gap;
  REQUIRE(gap.high);
  CHECK_FALSE(compare(e, {}, quick).passed.has_value());
  CHECK(compare(e, {.max_nll_gap = *gap.high, .min_attended_ratio = {}}, quick).passed == true);
  const auto missed =
      compare(e, {.max_nll_gap = (gap.mean + *gap.high) / 2, .min_attended_ratio = {}}, quick);
  CHECK(missed.passed == false);  // the mean is below the limit, the bound is not
  CHECK(missed.thresholds[0].value == gap.mean);
  CHECK(missed.thresholds[0].bound == gap.high);
  CHECK(compare(e, {.max_nll_gap = {}, .min_attended_ratio = 4.0}, quick).passed == true);
  CHECK(compare(e, {.max_nll_gap = {}, .min_attended_ratio = 4.1}, quick).passed == false);
  const auto both = compare(e, {.max_nll_gap = 10.0, .min_attended_ratio = 4.1}, quick);
  CHECK(both.passed == false);
  CHECK(both.thresholds[0].met);
  CHECK_FALSE(both.thresholds[1].met);
}

TEST_CASE("comparison: fewer than 4 problems give figures, no interval, and no passed gap") {
  const auto v = compare(evaluation(3), {.max_nll_gap = 100.0, .min_attended_ratio = 1.0}, quick);
  const auto& delta = named(v, "delta");
  CHECK_FALSE(std::isnan(delta.active.nll_gap.mean));
  CHECK_FALSE(delta.active.nll_gap.high);
  CHECK(v.no_interval_reason == "fewer than 4 problems: 3");
  CHECK(v.passed == false);
  CHECK_FALSE(v.thresholds[0].met);
  CHECK(v.thresholds[1].met);
}

TEST_CASE("comparison: a config without sparse layers has no active step") {
  const auto v = compare(evaluation(5, 1, 0), {.max_nll_gap = 1.0, .min_attended_ratio = {}}, quick);
  const auto& delta = named(v, "delta");
  CHECK(delta.active.n_steps == 0);
  CHECK(std::isnan(delta.active.nll_gap.mean));
  CHECK(delta.samples_without_active == 10);
  CHECK(delta.all.n_steps > 0);
  CHECK(v.passed == false);
  CHECK(accepted(written(v)));
}

TEST_CASE("comparison: figures that do not fit their sample are refused") {
  CHECK_THROWS_AS(compare({}, {}, quick), Error);
  auto e = evaluation(2);
  e.samples[1].policies[0].kl.pop_back();
  CHECK_THROWS_AS(compare(e, {}, quick), Error);
  e = evaluation(2);
  e.samples[1].policies.pop_back();
  CHECK_THROWS_AS(compare(e, {}, quick), Error);
  e = evaluation(2);
  e.samples[1].policies[0].kl[3] = NAN;  // a broken step must not drop out of the mean
  CHECK_THROWS_AS(compare(e, {}, quick), Error);
  e = evaluation(2);
  e.samples[1].policies[0].nll[3] = INFINITY;
  CHECK_THROWS_AS(compare(e, {}, quick), Error);
  e = evaluation(2);
  e.policies.clear();
  CHECK_THROWS_AS(compare(e, {}, quick), Error);
}

TEST_CASE("comparison: validation.json follows its schema, and the schema says no to other files") {
  for (int n_problems : {2, 5}) {
    const auto document =
        written(compare(evaluation(n_problems), {.max_nll_gap = 0.01, .min_attended_ratio = 1.5}, quick));
    CHECK(accepted(document));
    CHECK(document["verdict"]["passed"] == false);
    CHECK(document["policies"][0]["name"] == "full");
    CHECK(document["policies"][1]["samples"][0]["nll"].is_null());  // no active step
    CHECK(document["policies"][1]["samples"][1]["all"]["nll"].is_number());
    CHECK(document["policies"][1]["active"]["nll_gap"]["high"].is_null() == (n_problems < 4));
    CHECK(document["interval"]["reason"].is_null() == (n_problems >= 4));
    CHECK(document["config"]["schedule"] == "full 0-1 · delta 2 · sparse k 8, L 4");
  }
  const auto good = written(compare(evaluation(4), {}, quick));
  CHECK(accepted(good));
  CHECK(good["verdict"]["passed"].is_null());
  for (const char* field : {"policies", "verdict", "interval", "config", "model", "format"}) {
    auto bad = good;
    bad.erase(field);
    CHECK_FALSE(accepted(bad));
  }
  auto bad = good;
  bad["policies"][0]["active"]["top1"] = 1.5;
  CHECK_FALSE(accepted(bad));
  bad = good;
  bad["policies"][0]["surprise"] = 1;
  CHECK_FALSE(accepted(bad));
  bad = good;
  bad["verdict"]["passed"] = "yes";
  CHECK_FALSE(accepted(bad));
}
